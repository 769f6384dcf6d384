//! gRPC between members: the only place that opens a connection to a member.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::v1::peer_client::PeerClient;
use larder_proto::v1::{
    FetchRequest, FetchResponse, SyncRequest, SyncResponse, TakeOverRequest, TakeOverResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

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

/// The transport of a real cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grpc;

impl Transport for Grpc {
    fn open(&self, address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| InvalidAddress(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let client = PeerClient::new(endpoint.connect_lazy());
        Ok(Arc::new(client.max_decoding_message_size(MAX_MESSAGE_BYTES)))
    }
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
