//! etcd's KV service.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse,
    PbTxnRequest, PbTxnResponse,
};
use tonic::{Request, Response, Status};

use super::{EtcdService, respond};

#[tonic::async_trait]
impl PbKvService for EtcdService {
    type RangeStreamStream = tokio_stream::Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<PbRangeResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.read(|state, _| state.range(request.get_ref()))?)
    }

    /// Not part of etcd 3.6, whose behaviour this crate follows.
    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("unknown method RangeStream"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.change(|state, _| state.put(request.into_inner()))?)
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.change(|state, _| state.delete(request.get_ref()))?)
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.change(|state, _| state.txn(request.into_inner()))?)
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.change(|state, _| state.compact(request.get_ref()))?)
    }
}
