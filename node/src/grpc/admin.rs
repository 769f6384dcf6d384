//! `larder.v1.Admin`: what the command line, ring-aware clients and dashboards ask of a member.

use larder_engine::{CURVE_PERCENTS, Curve, TooYoung};
use larder_proto::v1::admin_server::Admin;
use larder_proto::v1::{
    CurveRequest, CurveResponse, GroupStatus, HotKey, HotKeysRequest, HotKeysResponse,
    PredictedPolicy, PredictedSize, RingMember, RingRequest, RingResponse, StatusRequest,
    StatusResponse,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::cache::{Cache, GroupReport};
use crate::grpc::status;
use crate::metrics::{Outcome, RingMetrics};

/// Hot keys of a group that are told unless the caller says how many.
const HOT_KEYS: u32 = 10;
/// And at most.
const MAX_HOT_KEYS: u32 = 100;

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
        let members =
            view.registrations().iter().map(|(name, r)| RingMember::from((name.as_str(), r)));
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

    async fn curve(
        &self,
        request: Request<CurveRequest>,
    ) -> Result<Response<CurveResponse>, Status> {
        let told = self.cache.curve(&request.into_inner().group);
        let told = told.map_err(|error| status::status(&error))?;
        let member = self.cache.member().to_string();
        Ok(Response::new(CurveResponse { member, ..told.map_or_else(young, curve) }))
    }

    async fn hot_keys(
        &self,
        request: Request<HotKeysRequest>,
    ) -> Result<Response<HotKeysResponse>, Status> {
        let HotKeysRequest { group, limit } = request.into_inner();
        let most = if limit == 0 { HOT_KEYS } else { limit.min(MAX_HOT_KEYS) };
        let names = if group.is_empty() { self.cache.group_names() } else { vec![group] };
        let mut keys = Vec::new();
        for name in names {
            let hot = self.cache.hot_keys(&name, most as usize);
            let hot = hot.map_err(|error| status::status(&error))?;
            keys.extend(hot.into_iter().map(|hot| HotKey {
                group: name.clone(),
                key: hot.key.into(),
                reads_per_second: hot.reads_per_second,
            }));
        }
        Ok(Response::new(HotKeysResponse { member: self.cache.member().to_string(), keys }))
    }
}

fn curve(curve: Curve) -> CurveResponse {
    let sizes = CURVE_PERCENTS.into_iter().zip(curve.sizes);
    let policies = curve.policies.into_iter();
    CurveResponse {
        member: String::new(),
        policy: curve.policy.name().to_owned(),
        limit_bytes: curve.limit_bytes,
        requests: curve.requests,
        sampled: curve.sampled,
        needed: curve.needed,
        actual: curve.actual,
        sizes: sizes.map(|(percent, hit_ratio)| PredictedSize { percent, hit_ratio }).collect(),
        policies: policies
            .map(|(policy, hit_ratio)| PredictedPolicy { policy: policy.to_string(), hit_ratio })
            .collect(),
        memory_bytes: curve.memory_bytes,
    }
}

fn young(young: TooYoung) -> CurveResponse {
    CurveResponse { sampled: young.sampled, needed: young.needed, ..CurveResponse::default() }
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
