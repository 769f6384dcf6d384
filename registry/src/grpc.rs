//! etcd's gRPC services on top of the shared state. They decode requests, call the state machine
//! and complete response headers; all decisions are in [`crate::state`].

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

/// Maximum size of a request in bytes: etcd's 1.5 MiB and its allowance for framing.
const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
/// Responses queued for one stream.
const STREAM_BUFFER: usize = 16;

/// Implements all of etcd's services. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct EtcdService {
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// Serves until the tasks stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    let service = EtcdService { shared, tasks: tasks.clone() };
    let served = Server::builder()
        .tcp_nodelay(true)
        .add_service(PbKvServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(PbLeaseServer::new(service.clone()))
        .add_service(PbWatchServer::new(service.clone()))
        .add_service(PbClusterServer::new(service.clone()))
        .add_service(PbMaintenanceServer::new(service))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            tasks.stopping().cancelled().await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "registry stopped serving");
    }
}

/// Completes the header of a response.
macro_rules! respond {
    ($service:expr, $response:expr) => {{
        let mut response = $response;
        response.header = Some($service.shared.header(response.header.take()));
        Ok(tonic::Response::new(response))
    }};
}
use respond;
