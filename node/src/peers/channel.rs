//! gRPC between members: the only place that opens a connection to a member.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use larder_proto::v1::peer_client::PeerClient;
use larder_proto::v1::{
    FetchRequest, FetchResponse, SyncRequest, SyncResponse, TakeOverRequest, TakeOverResponse,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};
use tower::Service;

use super::tls::PeerTls;
use super::transport::{CallError, InvalidAddress, PeerConnection, Transport};

/// A peer that accepts no connection within this time counts as not answering.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// Pings detect a peer that vanished without closing its connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// gRPC's common receive limit. The sending peer cuts a batch of results below it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Leaves room for one more value of the largest size and for framing.
const MAX_MESSAGE_BYTES: usize = 4 * BATCH_BYTES;

/// The transport of a real cluster: plain text by default.
#[derive(Clone, Default)]
pub struct Grpc {
    tls: Option<PeerTls>,
}

impl Grpc {
    /// Calls peers over TLS.
    #[must_use]
    pub fn with_tls(tls: PeerTls) -> Self {
        Self { tls: Some(tls) }
    }
}

impl Transport for Grpc {
    fn open(&self, address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        let invalid = |error: &dyn Error| InvalidAddress(error.to_string());
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| invalid(&error))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = match &self.tls {
            None => endpoint.connect_lazy(),
            Some(tls) => {
                let origin = format!("https://{address}").parse().map_err(|e| invalid(&e))?;
                // The connector encrypts; the endpoint's own scheme would make tonic do it again.
                endpoint.origin(origin).connect_with_connector_lazy(connector(tls, address))
            }
        };
        let client = PeerClient::new(channel);
        Ok(Arc::new(client.max_decoding_message_size(MAX_MESSAGE_BYTES)))
    }
}

/// Opens one connection to `address` for each call.
fn connector(
    tls: &PeerTls,
    address: &str,
) -> impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    let (tls, address) = (tls.clone(), address.to_owned());
    tower::service_fn(move |_: Uri| {
        let (tls, address) = (tls.clone(), address.clone());
        async move { tls.connect(&address).await.map(TokioIo::new) }
    })
}

impl PeerConnection for PeerClient<Channel> {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>> {
        let mut client = self.clone();
        async move { outcome(PeerClient::fetch(&mut client, request).await) }.boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        let mut client = self.clone();
        async move { outcome(PeerClient::sync(&mut client, request).await) }.boxed()
    }

    fn take_over(
        &self,
        request: TakeOverRequest,
    ) -> BoxFuture<'_, Result<TakeOverResponse, CallError>> {
        let mut client = self.clone();
        async move { outcome(PeerClient::take_over(&mut client, request).await) }.boxed()
    }
}

fn outcome<T>(response: Result<Response<T>, Status>) -> Result<T, CallError> {
    response.map(Response::into_inner).map_err(CallError::from)
}

impl From<Status> for CallError {
    /// A status that the client side made from a transport error has that error as its source.
    fn from(status: Status) -> Self {
        match status.source() {
            None => Self::Status(status),
            Some(source) if is_timeout(source) => Self::TimedOut,
            Some(source) => Self::Broken(format!("{status}: {source}")),
        }
    }
}

/// True if an error or one of its causes is a time limit, such as that of connecting.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|error| {
        let io_error = error.downcast_ref::<io::Error>();
        error.is::<tonic::TimeoutExpired>()
            || io_error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}
