//! The baseline server: a member's service and messages on tonic, one value for every key and no
//! cache behind it. It shows what tonic alone costs.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use larder_proto::v1::cache_server::{Cache, CacheServer};
use larder_proto::v1::{
    GetManyRequest, GetManyResponse, GetRequest, GetResponse, InvalidateRequest, InvalidateResponse,
};
use tonic::{Request, Response, Status};

/// Serves until it is killed, on one current-thread runtime like a member's worker.
///
/// # Errors
/// The address is in use.
pub(crate) fn serve(listen: SocketAddr, value_bytes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let echo = Echo { value: Bytes::from(vec![b'v'; value_bytes]) };
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    Ok(runtime.block_on(async move {
        let mut server = server;
        server.add_service(CacheServer::new(echo)).serve(listen).await
    })?)
}

struct Echo {
    value: Bytes,
}

#[tonic::async_trait]
impl Cache for Echo {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        if request.get_ref().key.is_empty() {
            return Err(Status::invalid_argument("the key is empty"));
        }
        Ok(Response::new(GetResponse { value: self.value.clone(), ..Default::default() }))
    }

    async fn get_many(
        &self,
        _: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        Err(Status::unimplemented("the echo server serves Get only"))
    }

    async fn invalidate(
        &self,
        _: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        Err(Status::unimplemented("the echo server serves Get only"))
    }
}
