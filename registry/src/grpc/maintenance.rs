//! The part of etcd's Cluster and Maintenance services that clients use to identify a server. The
//! registry is a single member: membership changes, backups and downgrades are refused.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbClusterService, PbDefragmentRequest, PbDefragmentResponse,
    PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest,
    PbHashResponse, PbMaintenanceService, PbMember, PbMemberAddRequest, PbMemberAddResponse,
    PbMemberListRequest, PbMemberListResponse, PbMemberPromoteRequest, PbMemberPromoteResponse,
    PbMemberRemoveRequest, PbMemberRemoveResponse, PbMemberUpdateRequest, PbMemberUpdateResponse,
    PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse,
    PbStatusRequest, PbStatusResponse,
};
use tonic::{Request, Response, Status};

use super::{EtcdService, respond};

/// The etcd release whose behaviour this crate follows.
const VERSION: &str = "3.6.0";
const NAME: &str = "larder-registry";

fn refuse<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not supported by the embedded registry, a single in-memory member"))
}

#[tonic::async_trait]
impl PbClusterService for EtcdService {
    async fn member_list(
        &self,
        _: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        self.shared.wait_until_resumed().await;
        let id = self.shared.header(None).member_id;
        let member = PbMember { id, name: NAME.into(), ..Default::default() };
        respond!(self, PbMemberListResponse { header: None, members: vec![member] })
    }

    async fn member_add(
        &self,
        _: Request<PbMemberAddRequest>,
    ) -> Result<Response<PbMemberAddResponse>, Status> {
        refuse()
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        refuse()
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        refuse()
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        refuse()
    }
}

#[tonic::async_trait]
impl PbMaintenanceService for EtcdService {
    type SnapshotStream = tokio_stream::Empty<Result<PbSnapshotResponse, Status>>;

    async fn status(
        &self,
        _: Request<PbStatusRequest>,
    ) -> Result<Response<PbStatusResponse>, Status> {
        self.shared.wait_until_resumed().await;
        let header = self.shared.header(None);
        let index = u64::try_from(header.revision).unwrap_or(0);
        let status = PbStatusResponse {
            version: VERSION.into(),
            leader: header.member_id,
            raft_term: header.raft_term,
            raft_index: index,
            raft_applied_index: index,
            ..Default::default()
        };
        respond!(self, status)
    }

    async fn alarm(&self, _: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        self.shared.wait_until_resumed().await;
        respond!(self, PbAlarmResponse::default())
    }

    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        refuse()
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        refuse()
    }

    async fn hash_kv(
        &self,
        _: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        refuse()
    }

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        refuse()
    }

    async fn move_leader(
        &self,
        _: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        refuse()
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        refuse()
    }
}
