//! Serving threads: one current-thread runtime each, with listeners of its own on every port.
//!
//! The kernel spreads connections over the threads (`SO_REUSEPORT`), and a connection stays on its
//! thread: a hit crosses none. What a request means is not known here. Start at [`Workers::start`].

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use larder_runtime::random::Random;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::grpc::Door;

/// Connections of one thread on one port.
const MAX_CONNECTIONS: usize = 10_000;
/// After so long a client is asked to connect anew, so that it finds members that came later.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Ages differ by up to this share, so that clients do not all come back together.
const AGE_JITTER: f64 = 0.2;
/// Time that requests of a connection past its age are given.
const AGE_GRACE: Duration = Duration::from_secs(60);
/// Pings find clients that are gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that does not send its headers is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of a request; larger ones are refused.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Wait after a failed accept, which mostly means that the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How hard one connection may use us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    streams: u32,
    resets: usize,
    ages: bool,
}

/// Applications: many connections of little trust.
pub(crate) const CLIENTS: Allowance = Allowance { streams: 1_000, resets: 64, ages: true };
/// Members: few connections with everything on them. Source of the resets: a default of 20 broke
/// peer traffic elsewhere (grpc-rust PR 1401).
pub(crate) const MEMBERS: Allowance = Allowance { streams: 10_000, resets: 10_000, ages: false };

/// Serves one listener until its thread is told to stop.
pub(crate) type Port = Box<dyn FnOnce(Connections) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The connections of one thread.
#[derive(Clone)]
pub(crate) struct Connections {
    open: TaskTracker,
    stopping: CancellationToken,
    random: Random,
}

/// The serving threads. Dropped, they stop without grace.
pub(crate) struct Workers {
    threads: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
    stopping: CancellationToken,
    finished: CancellationToken,
}

impl Workers {
    /// One thread for each entry of `ports`, which lists its ports.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub(crate) fn start(ports: Vec<Vec<Port>>, random: &Random) -> io::Result<Self> {
        let (stopping, finished) = (CancellationToken::new(), CancellationToken::new());
        let mut workers = Self { threads: Vec::new(), stopping, finished };
        for (index, ports) in ports.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let connections = Connections {
                open: TaskTracker::new(),
                stopping: workers.stopping.clone(),
                random: random.clone(),
            };
            let finished = workers.finished.clone();
            let (done, is_done) = oneshot::channel();
            let thread =
                thread::Builder::new().name(format!("larder-worker-{index}")).spawn(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = serve(ports, connections) => {}
                            () = finished.cancelled() => {}
                        }
                    });
                    _ = done.send(());
                })?;
            workers.threads.push((thread, is_done));
        }
        Ok(workers)
    }

    /// Refuses new connections, lets requests in flight end within `grace`, and joins. True if
    /// all of them ended.
    pub(crate) async fn stop(mut self, grace: Duration) -> bool {
        self.stopping.cancel();
        let threads = std::mem::take(&mut self.threads);
        let (threads, done): (Vec<_>, Vec<_>) = threads.into_iter().unzip();
        let all_done = timeout(grace, futures::future::join_all(done)).await.is_ok();
        self.finished.cancel();
        for thread in threads {
            // Ends at once: everything it runs was finished or is dropped.
            if thread.join().is_err() {
                tracing::error!("serving thread panicked");
            }
        }
        all_done
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.finished.cancel();
    }
}

async fn serve(ports: Vec<Port>, connections: Connections) {
    let open = connections.open.clone();
    futures::future::join_all(ports.into_iter().map(|port| port(connections.clone()))).await;
    open.close();
    open.wait().await;
}

/// A port that speaks HTTP/2 only, to gRPC services.
pub(crate) fn grpc<S>(listener: TcpListener, door: Door<S>, allowance: Allowance) -> Port
where
    Door<S>: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = std::convert::Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
{
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(allowance.streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(allowance.resets)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connect = move |stream| builder.serve_connection(TokioIo::new(stream), door.clone());
    Box::new(move |connections| Box::pin(accept(listener, connections, allowance, connect)))
}

/// A port that speaks HTTP/1.1 and HTTP/2, to routes.
pub(crate) fn web(listener: TcpListener, routes: Router) -> Port {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CLIENTS.streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let service = TowerToHyperService::new(routes);
    let connect =
        move |stream| builder.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
    Box::new(move |connections| Box::pin(accept(listener, connections, CLIENTS, connect)))
}

async fn accept<C>(
    listener: TcpListener,
    connections: Connections,
    allowance: Allowance,
    connect: impl Fn(TcpStream) -> C,
) where
    C: GracefulConnection<Error: std::fmt::Display + Send> + Send + 'static,
{
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "listener cannot be used");
            return;
        }
    };
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            () = connections.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if count.load(Ordering::Relaxed) >= MAX_CONNECTIONS => drop(stream),
            Ok((stream, _)) => {
                // Only costs latency if it fails.
                _ = stream.set_nodelay(true);
                count.fetch_add(1, Ordering::Relaxed);
                let (count, connection) = (count.clone(), connect(stream));
                let (stopping, age) = (connections.stopping.clone(), connections.age(allowance));
                // Not through `Tasks`: its span would be entered at every poll of the hot path.
                connections.open.spawn(async move {
                    run(connection, stopping, age).await;
                    count.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Connections {
    fn age(&self, allowance: Allowance) -> Duration {
        if allowance.ages {
            CONNECTION_AGE.mul_f64(1.0 - AGE_JITTER * self.random.ratio())
        } else {
            Duration::MAX
        }
    }
}

/// One connection, until it ends, or is past its age, or the thread stops.
async fn run<C>(connection: C, stopping: CancellationToken, age: Duration)
where
    C: GracefulConnection<Error: std::fmt::Display>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(age) => {
            connection.as_mut().graceful_shutdown();
            match timeout(AGE_GRACE, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection broke");
    }
}
