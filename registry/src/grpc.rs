//! The edge: etcd's gRPC services over the shared state. Decodes, asks the state, completes
//! headers; decides nothing.

mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use larder_runtime::tasks::Tasks;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::shared::Shared;

/// The largest request, bytes: etcd's 1.5 MiB and its allowance for framing.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// Answers waiting for one stream.
const STREAM_BUFFER: usize = 16;

/// One service object for all of etcd's services; clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// Serves until the tasks stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    let edge = Edge { shared, tasks: tasks.clone() };
    let served = Server::builder()
        .tcp_nodelay(true)
        .add_service(PbKvServer::new(edge.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(PbLeaseServer::new(edge.clone()))
        .add_service(PbWatchServer::new(edge.clone()))
        .add_service(PbClusterServer::new(edge.clone()))
        .add_service(PbMaintenanceServer::new(edge))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            tasks.stopping().cancelled().await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "registry stopped serving");
    }
}

/// Completes the header of a response.
macro_rules! answer {
    ($edge:expr, $response:expr) => {{
        let mut response = $response;
        response.header = Some($edge.shared.header(response.header.take()));
        Ok(tonic::Response::new(response))
    }};
}
use answer;
