//! `larder.v1.Admin`: the service for the command line, ring-aware clients and dashboards.

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
use crate::metrics::{CountedAs, RingMetrics};
use crate::status::ErrorReply;

/// Hot keys of a group unless the caller sets a limit.
const DEFAULT_HOT_KEYS: u32 = 10;
const MAX_HOT_KEYS: u32 = 100;

/// Serves the state of one member.
#[derive(Clone)]
pub struct AdminService {
    cache: Cache,
    metrics: RingMetrics,
    started: Instant,
}

impl AdminService {
    /// Serves the state of `cache`. The uptime starts now.
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
        let predicted = self.cache.curve(&request.into_inner().group).map_err(ErrorReply::from)?;
        let member = self.cache.member().to_string();
        Ok(Response::new(CurveResponse { member, ..predicted.map_or_else(too_young, curve) }))
    }

    async fn hot_keys(
        &self,
        request: Request<HotKeysRequest>,
    ) -> Result<Response<HotKeysResponse>, Status> {
        let HotKeysRequest { group, limit } = request.into_inner();
        let max = if limit == 0 { DEFAULT_HOT_KEYS } else { limit.min(MAX_HOT_KEYS) };
        let names = if group.is_empty() { self.cache.group_names() } else { vec![group] };
        let mut keys = Vec::new();
        for name in names {
            let hot = self.cache.hot_keys(&name, max as usize).map_err(ErrorReply::from)?;
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

fn too_young(state: TooYoung) -> CurveResponse {
    CurveResponse { sampled: state.sampled, needed: state.needed, ..CurveResponse::default() }
}

fn group(report: &GroupReport) -> GroupStatus {
    let gets = |counted_as: CountedAs| report.gets[counted_as as usize];
    GroupStatus {
        name: report.name.clone(),
        policy: report.policy.to_owned(),
        entries: report.main.entries + report.hot.entries,
        bytes: report.main.bytes + report.hot.bytes,
        hits: gets(CountedAs::HitLocal) + gets(CountedAs::HitHot) + gets(CountedAs::HitPeer),
        misses: gets(CountedAs::Miss) + gets(CountedAs::Error),
        absent: report.main.absent_hits + report.hot.absent_hits,
        stale: gets(CountedAs::Stale),
        loads: report.loads,
        load_errors: report.load_errors,
        evictions: report.main.evicted + report.main.evicted_absent,
    }
}
