//! etcd's Lease service.

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Edge, STREAM_BUFFER, answer};

#[tonic::async_trait]
impl PbLeaseService for Edge {
    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        self.shared.pass().await;
        // Never 0, which means none; positive, as etcd's are.
        let spare_id = (self.shared.options.random.next() >> 1).cast_signed() | 1;
        let granted =
            self.shared.change(|state, now_ms| state.grant(request.get_ref(), spare_id, now_ms))?;
        answer!(self, granted)
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        self.shared.pass().await;
        answer!(self, self.shared.change(|state, _| state.revoke(request.get_ref().id))?)
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (answers, stream) = mpsc::channel(STREAM_BUFFER);
        let keeper = self.clone().keep_alive(request.into_inner(), answers);
        self.tasks.spawn("registry-keep-alive", keeper);
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        self.shared.pass().await;
        let told = self.shared.read(|state, now_ms| state.time_to_live(request.get_ref(), now_ms));
        answer!(self, told)
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        self.shared.pass().await;
        answer!(self, self.shared.read(|state, _| state.leases()))
    }
}

impl Edge {
    async fn keep_alive(
        self,
        mut requests: Streaming<PbLeaseKeepAliveRequest>,
        answers: mpsc::Sender<Result<PbLeaseKeepAliveResponse, Status>>,
    ) {
        let mut drops = self.shared.drops();
        loop {
            let request = tokio::select! {
                () = self.tasks.stopping().cancelled() => return,
                _ = drops.changed() => return,
                request = requests.message() => request,
            };
            let Ok(Some(request)) = request else { return };
            self.shared.pass().await;
            let mut answer =
                self.shared.change(|state, now_ms| state.keep_alive(request.id, now_ms));
            answer.header = Some(self.shared.header(None));
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}
