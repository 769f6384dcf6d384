//! The only place that opens a channel or asks a resolver, behind a trait so that a simulation
//! can put its own network in place.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};

/// A connection is pinged when nothing came over it for so long while calls wait.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A ping unanswered for so long ends the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections are kept alive by the kernel.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Opens channels and resolves names.
pub trait Network: Send + Sync + 'static {
    /// A channel to `address` (`host:port`) that connects when first used, and again after a
    /// broken connection. Called inside a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be one.
    fn open(&self, address: &str) -> io::Result<Channel>;

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
}

impl Network for Tcp {
    fn open(&self, address: &str) -> io::Result<Channel> {
        Ok(endpoint(address)?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect_lazy())
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The endpoint of a member, for networks that connect it in their own way.
///
/// # Errors
/// An address that cannot be one.
pub fn endpoint(address: &str) -> io::Result<Endpoint> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    Endpoint::from_shared(format!("http://{address}"))
        .and_then(|e| e.user_agent(concat!("larder-client/", env!("CARGO_PKG_VERSION"))))
        .map_err(invalid)
}
