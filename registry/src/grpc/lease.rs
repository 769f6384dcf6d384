//! etcd's Lease service.

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{EtcdService, STREAM_BUFFER, respond};

#[tonic::async_trait]
impl PbLeaseService for EtcdService {
    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        self.shared.wait_until_resumed().await;
        let spare_id = self.shared.spare_lease_id();
        let granted =
            self.shared.change(|state, now_ms| state.grant(request.get_ref(), spare_id, now_ms))?;
        respond!(self, granted)
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.change(|state, _| state.revoke(request.get_ref().id))?)
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (responses, stream) = mpsc::channel(STREAM_BUFFER);
        let serve = self.clone().keep_alive(request.into_inner(), responses);
        self.tasks.spawn("registry-keep-alive", serve);
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        self.shared.wait_until_resumed().await;
        let response =
            self.shared.read(|state, now_ms| state.time_to_live(request.get_ref(), now_ms));
        respond!(self, response)
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, self.shared.read(|state, _| state.leases()))
    }
}

impl EtcdService {
    async fn keep_alive(
        self,
        mut requests: Streaming<PbLeaseKeepAliveRequest>,
        responses: mpsc::Sender<Result<PbLeaseKeepAliveResponse, Status>>,
    ) {
        let mut drops = self.shared.drops();
        loop {
            let request = tokio::select! {
                () = self.tasks.stopping().cancelled() => return,
                _ = drops.changed() => return,
                request = requests.message() => request,
            };
            let Ok(Some(request)) = request else { return };
            self.shared.wait_until_resumed().await;
            let mut response =
                self.shared.change(|state, now_ms| state.keep_alive(request.id, now_ms));
            response.header = Some(self.shared.header(None));
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}
