//! The only place that opens a connection or asks a resolver, behind a trait so that a simulation
//! can put its own network in place.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection is pinged when nothing came over it for so long while calls wait.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A ping unanswered for so long ends the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections are kept alive by the kernel.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Bytes to and from a member.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that was made.
pub type Connection = Box<dyn Stream>;

/// Makes connections and resolves names.
pub trait Network: Send + Sync + 'static {
    /// One connection to `address` (`host:port`). Called inside a tokio runtime.
    ///
    /// # Errors
    /// Why there is none; also when it took longer than the network allows.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;

    /// All addresses of a name.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// TCP, and the operating system's resolver.
#[derive(Debug, Clone)]
pub struct Tcp {
    connect_timeout: Duration,
}

impl Tcp {
    /// Gives up on a connection that is not made within `connect_timeout`.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self { connect_timeout }
    }

    async fn open(&self, address: &str) -> io::Result<Connection> {
        let limit = self.connect_timeout;
        let stream = timeout(limit, TcpStream::connect(address)).await.map_err(|_| {
            let text = format!("no connection within {} ms", limit.as_millis());
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Box::new(stream))
    }
}

impl Network for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(self.open(address))
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The endpoint of a member.
///
/// # Errors
/// An address that cannot be one.
pub fn endpoint(address: &str) -> io::Result<Endpoint> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    Endpoint::from_shared(format!("http://{address}"))
        .and_then(|e| e.user_agent(concat!("larder-client/", env!("CARGO_PKG_VERSION"))))
        .map_err(invalid)
}

/// A channel over one connection. Once that has ended every call fails at once: a channel that
/// connects again by itself makes its calls wait for each attempt, one after the other.
pub(crate) async fn channel(network: &dyn Network, address: &str) -> io::Result<Channel> {
    let endpoint = endpoint(address)?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let mut connection = Some(TokioIo::new(network.connect(address).await?));
    let connect = tower::service_fn(move |_: Uri| {
        let ended = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        std::future::ready(connection.take().ok_or_else(ended))
    });
    endpoint.connect_with_connector(connect).await.map_err(io::Error::other)
}
