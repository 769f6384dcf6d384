//! `larder.v1.Admin`: what the command line, ring-aware clients and dashboards ask of a member.

use larder_proto::registry::Registration;
use larder_proto::v1::admin_server::Admin;
use larder_proto::v1::{
    GroupStatus, RingMember, RingRequest, RingResponse, StatusRequest, StatusResponse,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::cache::{Cache, GroupReport};
use crate::metrics::{Outcome, RingMetrics};

/// The service.
#[derive(Clone)]
pub struct AdminService {
    cache: Cache,
    metrics: RingMetrics,
    started: Instant,
}

impl AdminService {
    /// Tells about `cache`; the uptime counts from now.
    #[must_use]
    pub fn new(cache: Cache, metrics: RingMetrics) -> Self {
        Self { cache, metrics, started: Instant::now() }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn ring(&self, _: Request<RingRequest>) -> Result<Response<RingResponse>, Status> {
        let view = self.cache.peers().view();
        let members = view.registrations().iter().map(|(name, r)| ring_member(name, r));
        let placement = serde_json::to_string(self.cache.peers().placement());
        Ok(Response::new(RingResponse {
            revision: view.revision(),
            members: members.collect(),
            placement_json: placement.expect("plain data"),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let view = self.cache.peers().view();
        let members = view.registrations().len();
        Ok(Response::new(StatusResponse {
            member: self.cache.member().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ring_revision: view.revision(),
            ring_members: u32::try_from(members).unwrap_or(u32::MAX),
            registry_connected: self.metrics.registry_connected.get() == 1,
            capacity_bytes: self.cache.capacity_bytes(),
            used_bytes: self.cache.used_bytes(),
            uptime_seconds: self.started.elapsed().as_secs(),
            groups: self.cache.report().iter().map(group).collect(),
        }))
    }
}

fn ring_member(name: &str, registration: &Registration) -> RingMember {
    let metadata = &registration.metadata;
    RingMember {
        name: name.to_owned(),
        grpc_address: registration.address.clone(),
        http_address: metadata.http_address.clone(),
        peer_address: metadata.peer_address.clone(),
        weight: metadata.weight,
        zone: metadata.zone.clone().unwrap_or_default(),
    }
}

fn group(report: &GroupReport) -> GroupStatus {
    let gets = |outcome: Outcome| report.gets[outcome as usize];
    GroupStatus {
        name: report.name.clone(),
        policy: report.policy.to_owned(),
        entries: report.main.entries + report.hot.entries,
        bytes: report.main.bytes + report.hot.bytes,
        hits: gets(Outcome::HitLocal) + gets(Outcome::HitHot) + gets(Outcome::HitPeer),
        misses: gets(Outcome::Miss) + gets(Outcome::Error),
        absent: report.main.absent_hits + report.hot.absent_hits,
        stale: gets(Outcome::Stale),
        loads: report.loads,
        load_errors: report.load_errors,
        evictions: report.main.evicted + report.main.evicted_absent,
    }
}
