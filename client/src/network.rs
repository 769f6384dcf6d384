//! The only module that opens a connection or calls a resolver, behind a trait that a simulation
//! can implement.

mod first_read;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Response;
use http::header::CONTENT_TYPE;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::transport::{self, Channel, Endpoint, Uri};
use tower::util::MapResult;

use self::first_read::{FRAME_TYPE_AT, FirstRead};
use crate::error::{Failure, root_cause};
use crate::tls_error::explain;

/// Idle time of a connection with open calls after which it is pinged.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit of the answer to a ping; after it the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle time of a connection without calls after which the kernel probes it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Time limit of the HTTP/2 handshake, from the open connection to the server's first frame.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// Bytes to and from a member.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection.
pub type Connection = Box<dyn Stream>;

/// Opens connections and resolves names.
pub trait Network: Send + Sync + 'static {
    /// Opens a connection to `address` (`host:port`). Called inside a tokio runtime.
    ///
    /// # Errors
    /// The connection cannot be made, or not within the network's time limit.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;

    /// All addresses of a name.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// True if connections are encrypted, so that requests say `https`.
    fn is_encrypted(&self) -> bool {
        false
    }
}

/// TCP and the operating system's resolver.
#[derive(Debug, Clone)]
pub struct Tcp {
    connect_timeout: Duration,
}

impl Tcp {
    /// Limits the time of opening a connection to `connect_timeout`.
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

/// A channel to a member at `address` (`host:port`), which reconnects by itself.
///
/// # Errors
/// No connection within `limit`, or the server does not speak gRPC.
pub async fn connect(
    network: Arc<dyn Network>,
    address: &str,
    limit: Duration,
) -> Result<Channel, Failure> {
    let failure = |message| Failure::Connection { address: address.to_owned(), message };
    // A channel that reconnects does not say why a server refuses a connection.
    drop(channel(&*network, address).await?);
    let endpoint = endpoint(address, network.is_encrypted())
        .map_err(|error| failure(root_cause(&error)))?
        .connect_timeout(limit);
    let dialled = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (network, address) = (network.clone(), dialled.clone());
        async move { network.connect(&address).await.map(TokioIo::new) }
    });
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| failure(root_cause(&error)))
}

/// The tonic endpoint of a member at `address` (`host:port`).
fn endpoint(address: &str, is_encrypted: bool) -> io::Result<Endpoint> {
    let invalid = |error: &dyn std::error::Error| {
        io::Error::new(io::ErrorKind::InvalidInput, root_cause(error))
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|e| e.user_agent(concat!("larder-client/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| invalid(&error))?;
    if !is_encrypted {
        return Ok(endpoint);
    }
    // The network encrypts; the endpoint's own scheme would make tonic do it again.
    let origin = format!("https://{address}").parse().map_err(|error| invalid(&error))?;
    Ok(endpoint.origin(origin))
}

/// A channel whose calls fail with [`ChannelError::NotGrpc`] when the response is not gRPC.
pub(crate) type GrpcChannel =
    MapResult<Channel, fn(Result<Response<Body>, transport::Error>) -> GrpcResponse>;

type GrpcResponse = Result<Response<Body>, ChannelError>;

/// Why a call has no gRPC response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error(transparent)]
    Transport(#[from] transport::Error),
    /// A proxy has no member behind it now.
    #[error("a proxy answered HTTP {status} in its place")]
    Proxy { status: u16 },
    /// The server sent something else, which `problem` describes.
    #[error("the server does not speak gRPC: {problem}")]
    NotGrpc { problem: String },
}

/// Opens a channel over one connection. Once that has ended every call fails at once: a channel
/// that reconnects by itself makes its calls wait for each attempt in turn.
pub(crate) async fn channel(network: &dyn Network, address: &str) -> Result<GrpcChannel, Failure> {
    let failure = |message| Failure::Connection { address: address.to_owned(), message };
    let io_failure = |error: io::Error| failure(root_cause(&error));
    let endpoint = endpoint(address, network.is_encrypted())
        .map_err(io_failure)?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let stream = network.connect(address).await.map_err(io_failure)?;
    let (stream, first_bytes) = FirstRead::of(stream);
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let ended = || io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
        std::future::ready(stream.take().ok_or_else(ended))
    });
    let handshake = async {
        let connected = endpoint.connect_with_connector(connector).await;
        match (first_bytes.await, connected) {
            // A server that refuses the client's certificate says so after the TLS handshake.
            (Ok(Err(error)), _) => Err(io_failure(explain(error))),
            (_, Err(error)) => Err(failure(root_cause(&error))),
            (Ok(Ok(bytes)), Ok(channel)) if starts_http2(&bytes) => {
                Ok(MapResult::new(channel, require_grpc as fn(_) -> _))
            }
            (Ok(Ok(bytes)), Ok(_)) => {
                let problem = describe(&bytes);
                Err(Failure::NotGrpc { address: address.to_owned(), problem })
            }
            (Err(_), Ok(_)) => {
                Err(failure("the server closed the connection in the HTTP/2 handshake".into()))
            }
        }
    };
    let limit = HANDSHAKE_LIMIT;
    timeout(limit, handshake).await.unwrap_or_else(|_| {
        Err(failure(format!("no HTTP/2 handshake within {} ms", limit.as_millis())))
    })
}

/// The type of the frame with which a server begins. Source: RFC 9113, sections 3.4 and 6.5.
const SETTINGS: u8 = 4;
/// The first byte of a TLS server's answer to anything but TLS. Source: RFC 8446, section 5.1.
const TLS_ALERT: u8 = 21;

fn starts_http2(first_bytes: &[u8]) -> bool {
    first_bytes.get(FRAME_TYPE_AT) == Some(&SETTINGS)
}

/// What a server that does not begin with HTTP/2 sent, for an error message.
fn describe(first_bytes: &[u8]) -> String {
    if first_bytes.first() == Some(&TLS_ALERT) {
        return "it expects TLS: use https:// and certificates".into();
    }
    let mut lines = first_bytes.split(|byte| matches!(byte, b'\r' | b'\n'));
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default());
    format!("its first bytes are {line:?}, not HTTP/2")
}

/// Refuses a response that is not gRPC, such as a web page, instead of decoding it as a message.
fn require_grpc(result: Result<Response<Body>, transport::Error>) -> GrpcResponse {
    let response = result?;
    let headers = response.headers();
    let is_grpc = headers.contains_key("grpc-status")
        || headers.get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
    match response.status().as_u16() {
        _ if is_grpc => Ok(response),
        // The codes that gRPC maps to UNAVAILABLE. Source: grpc, doc/http-grpc-status-mapping.md.
        status @ (429 | 502..=504) => Err(ChannelError::Proxy { status }),
        status => Err(ChannelError::NotGrpc { problem: format!("it answered HTTP {status}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, content_type: &str) -> GrpcResponse {
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        require_grpc(Ok(response.body(Body::empty()).expect("valid")))
    }

    #[test]
    fn a_web_page_is_not_a_grpc_response() {
        assert!(response(200, "application/grpc+proto").is_ok());
        let error = response(404, "text/plain").expect_err("a web server");
        assert_eq!(error.to_string(), "the server does not speak gRPC: it answered HTTP 404");
        assert!(response(200, "text/html").is_err());
        let error = response(503, "text/html").expect_err("a proxy");
        assert_eq!(error.to_string(), "a proxy answered HTTP 503 in its place");
    }

    #[test]
    fn an_http2_server_begins_with_settings() {
        assert!(starts_http2(&[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        assert!(!starts_http2(b"HTTP/1.1 400 Bad Request"));
        let expected = "its first bytes are \"HTTP/1.1 400 Bad Request\", not HTTP/2";
        assert_eq!(describe(b"HTTP/1.1 400 Bad Request\r\nDate: x"), expected);
        let alert = [21, 3, 3, 0, 2, 2, 70];
        assert!(!starts_http2(&alert));
        assert_eq!(describe(&alert), "it expects TLS: use https:// and certificates");
    }
}
