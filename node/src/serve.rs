//! Serving threads: each has a current-thread runtime and its own listener on every port.
//!
//! The kernel distributes connections over the threads (`SO_REUSEPORT`), and a connection stays on
//! its thread, so a hit involves one thread only. This module does not interpret requests. Start at
//! [`Workers::start`].

mod identity;
mod stream;
mod tls;

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
use larder_runtime::tasks::Failure;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

pub use self::identity::CallerIdentity;
use self::identity::Identified;
use self::stream::ServerStream;
pub(crate) use self::tls::{Acceptor, PortKind};
use crate::grpc::PortService;

/// Most connections of one thread on one port.
const MAX_CONNECTIONS: usize = 10_000;
/// Age at which a client is asked to reconnect, so that it discovers newer members.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Ages differ by up to this share, so that clients do not all reconnect at once.
const AGE_JITTER: f64 = 0.2;
/// Time for the requests in flight on a connection past its age.
const AGE_GRACE: Duration = Duration::from_secs(60);
/// Pings detect clients that vanished without closing their connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not sent its headers by then is disconnected.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger request headers are refused.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Wait after a failed accept: mostly the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    streams: u32,
    resets: usize,
    /// Whether it is closed at [`CONNECTION_AGE`].
    ages: bool,
}

/// For applications: many untrusted connections.
pub(crate) const CLIENTS: ConnectionLimits =
    ConnectionLimits { streams: 1_000, resets: 64, ages: true };
/// For members: few connections that carry all traffic. Source of the resets: the default of 20
/// broke peer traffic in another project (grpc-rust PR 1401).
pub(crate) const MEMBERS: ConnectionLimits =
    ConnectionLimits { streams: 10_000, resets: 10_000, ages: false };

/// Serves one listener until its thread stops.
pub(crate) type ListenerTask =
    Box<dyn FnOnce(Connections) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The connections of one thread.
#[derive(Clone)]
pub(crate) struct Connections {
    open: TaskTracker,
    stopping: CancellationToken,
    random: Random,
}

/// The serving threads. On drop they stop without a grace time.
pub(crate) struct Workers {
    threads: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
    stopping: CancellationToken,
    finished: CancellationToken,
}

impl Workers {
    /// Starts one thread for each entry of `threads`, which lists its listeners. The panic of a
    /// thread is a `failure`.
    ///
    /// # Errors
    /// If the system cannot create a thread or a runtime.
    pub(crate) fn start(
        threads: Vec<Vec<ListenerTask>>,
        random: &Random,
        failure: &Failure,
    ) -> io::Result<Self> {
        let (stopping, finished) = (CancellationToken::new(), CancellationToken::new());
        let mut workers = Self { threads: Vec::new(), stopping, finished };
        for (index, listeners) in threads.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let connections = Connections {
                open: TaskTracker::new(),
                stopping: workers.stopping.clone(),
                random: random.clone(),
            };
            let (finished, failure) = (workers.finished.clone(), failure.clone());
            let (done, is_done) = oneshot::channel();
            let thread =
                thread::Builder::new().name(format!("larder-worker-{index}")).spawn(move || {
                    // Its listeners are gone with it, and perhaps no other thread has any.
                    let _vital = failure.vital("serving thread");
                    runtime.block_on(async {
                        tokio::select! {
                            () = serve(listeners, connections) => {}
                            () = finished.cancelled() => {}
                        }
                    });
                    _ = done.send(());
                })?;
            workers.threads.push((thread, is_done));
        }
        Ok(workers)
    }

    /// Refuses new connections, waits up to `grace` for requests in flight, and joins the threads.
    /// True if every request ended in time.
    pub(crate) async fn stop(mut self, grace: Duration) -> bool {
        self.stopping.cancel();
        let threads = std::mem::take(&mut self.threads);
        let (threads, done): (Vec<_>, Vec<_>) = threads.into_iter().unzip();
        let all_done = timeout(grace, futures::future::join_all(done)).await.is_ok();
        self.finished.cancel();
        for thread in threads {
            // Ends at once: its tasks have finished or are dropped.
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

async fn serve(listeners: Vec<ListenerTask>, connections: Connections) {
    let open = connections.open.clone();
    let tasks = listeners.into_iter().map(|listener| listener(connections.clone()));
    futures::future::join_all(tasks).await;
    open.close();
    open.wait().await;
}

/// Serves gRPC over HTTP/2, over TLS if there is an `acceptor`.
pub(crate) fn grpc<S>(
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    service: PortService<S>,
    limits: ConnectionLimits,
) -> ListenerTask
where
    PortService<S>: hyper::service::Service<
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
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(limits.resets)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    Box::new(move |connections| {
        let service = service.until(connections.stopping.clone());
        let connect = move |stream, caller| {
            let service = Identified { service: service.clone(), caller };
            builder.serve_connection(TokioIo::new(stream), service)
        };
        Box::pin(accept(listener, connections, limits, acceptor, connect))
    })
}

/// Serves routes over HTTP/1.1 and HTTP/2, over TLS if there is an `acceptor`.
pub(crate) fn web(
    listener: TcpListener,
    acceptor: Option<Arc<Acceptor>>,
    routes: Router,
) -> ListenerTask {
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
    let connect = move |stream, caller| {
        let service = Identified { service: service.clone(), caller };
        builder.serve_connection(TokioIo::new(stream), service).into_owned()
    };
    Box::new(move |connections| Box::pin(accept(listener, connections, CLIENTS, acceptor, connect)))
}

async fn accept<C>(
    listener: TcpListener,
    connections: Connections,
    limits: ConnectionLimits,
    acceptor: Option<Arc<Acceptor>>,
    connect: impl Fn(ServerStream, Option<CallerIdentity>) -> C + Clone + Send + 'static,
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
                // A failure only costs latency.
                _ = stream.set_nodelay(true);
                count.fetch_add(1, Ordering::Relaxed);
                let (count, connect, acceptor) = (count.clone(), connect.clone(), acceptor.clone());
                let (stopping, max_age) =
                    (connections.stopping.clone(), connections.max_age(limits));
                // Not through `Tasks`, whose span would be entered at every poll of the hot path.
                connections.open.spawn(async move {
                    if let Some((stream, caller)) = tls::secure(acceptor.as_deref(), stream).await {
                        run(connect(stream, caller), stopping, max_age).await;
                    }
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
    fn max_age(&self, limits: ConnectionLimits) -> Duration {
        if limits.ages {
            CONNECTION_AGE.mul_f64(1.0 - AGE_JITTER * self.random.ratio())
        } else {
            Duration::MAX
        }
    }
}

/// Serves one connection until it ends, reaches its age, or the thread stops.
async fn run<C>(connection: C, stopping: CancellationToken, max_age: Duration)
where
    C: GracefulConnection<Error: std::fmt::Display>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(max_age) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_serving_thread_is_a_failure() {
        let failure = Failure::default();
        let listener: ListenerTask = Box::new(|_| Box::pin(async { panic!("planned") }));
        let random = Random::seeded(1);
        let workers = Workers::start(vec![vec![listener]], &random, &failure).expect("a thread");
        timeout(Duration::from_secs(10), failure.wait()).await.expect("seen");
        workers.stop(Duration::from_secs(1)).await;
    }
}
