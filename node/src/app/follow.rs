//! Passes on what membership publishes: members to the peers, contracts to the cache, readiness to
//! the probes. Membership itself calls no other module.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder_engine::PolicyKind;
use larder_proto::contract::GroupContract;
use larder_runtime::ready::{Gate, Ready};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::options::BuildOrigin;
use crate::cache::{Cache, GroupPlan, OriginSource};
use crate::config::{Config, Identity};
use crate::membership::{MembershipView, Visibility};
use crate::metrics::RingMetrics;
use crate::origin::{self, Credentials, Loader, LoaderDeps, Targets};
use crate::snapshot::Snapshots;

/// How often departed members are checked and unusable origins are built again.
const MAINTENANCE_INTERVAL: Duration = Duration::from_millis(500);

/// Merges the groups of the registry with those of the embedding program.
pub(super) struct Groups {
    embedded: BTreeMap<String, GroupPlan>,
    /// In place of the clients of the origins' protocols.
    build_origin: Option<BuildOrigin>,
    /// Runtime of the loads. Loaders are built on it, because their connections belong to it.
    loads: Handle,
    deps: LoaderDeps,
}

/// What readiness waits for. A gate opens once; readiness never depends on the registry again.
pub(super) struct Gates {
    registered: Option<Gate>,
    joined: Option<Gate>,
}

/// Follows the membership view until the node stops.
pub(super) struct Follower {
    pub(super) views: watch::Receiver<Arc<MembershipView>>,
    pub(super) registered: watch::Receiver<bool>,
    pub(super) superseded: watch::Receiver<bool>,
    pub(super) connected: watch::Receiver<bool>,
    pub(super) visibility: Visibility,
    pub(super) identity: Identity,
    pub(super) ready: Ready,
    pub(super) cache: Cache,
    pub(super) groups: Groups,
    pub(super) metrics: RingMetrics,
    pub(super) snapshots: Option<Arc<Snapshots>>,
    /// The view that was applied last.
    pub(super) applied: Option<Arc<MembershipView>>,
}

impl Gates {
    pub(super) fn new(ready: &Ready) -> Self {
        Self { registered: Some(ready.gate("registered")), joined: Some(ready.gate("ring joined")) }
    }
}

impl Groups {
    pub(super) fn new(
        config: &Config,
        embedded: BTreeMap<String, GroupPlan>,
        build_origin: Option<BuildOrigin>,
        loads: Handle,
    ) -> Self {
        Self {
            embedded,
            build_origin,
            loads,
            deps: LoaderDeps {
                credentials: Credentials::new(&config.credentials_directory),
                targets: Targets::new(&*config.allowed_targets, api_server()),
                max_value_bytes: config.limits.max_value_bytes,
            },
        }
    }

    /// Makes the cache's groups match the contracts and the embedding program. A loader of the
    /// embedding program takes precedence over the origin of a contract.
    pub(super) fn apply(&self, cache: &Cache, contracts: &BTreeMap<String, GroupContract>) {
        let _runtime = self.loads.enter();
        let mut plans = self.embedded.clone();
        for (name, contract) in contracts {
            let given = self.embedded.get(name).map(|plan| plan.origin.clone());
            let origin = given.unwrap_or_else(|| OriginSource::Described(contract.origin.clone()));
            plans.insert(name.clone(), plan(name, contract, origin));
        }
        cache.set_groups(&plans, &|plan| self.loader(plan));
    }

    fn loader(&self, plan: &GroupPlan) -> Result<Arc<dyn Loader>, Arc<str>> {
        match &plan.origin {
            OriginSource::Given(loader) => Ok(loader.clone()),
            OriginSource::Described(origin) => {
                if let Some(build) = &self.build_origin {
                    return Ok(build(origin));
                }
                let loader = origin::build(origin, &plan.limits, &self.deps)
                    .map_err(|error| Arc::from(error.to_string()))?;
                loader.warm();
                Ok(loader)
            }
        }
    }
}

/// The address of the API server, which Kubernetes gives to every pod.
fn api_server() -> Option<IpAddr> {
    std::env::var("KUBERNETES_SERVICE_HOST").ok()?.parse().ok()
}

fn plan(name: &str, contract: &GroupContract, origin: OriginSource) -> GroupPlan {
    let policy = contract.policy.parse().unwrap_or_else(|_| {
        let policy = PolicyKind::default();
        tracing::warn!(group = name, wanted = contract.policy, used = %policy, "unknown policy");
        policy
    });
    GroupPlan {
        policy,
        freshness: contract.freshness.clone(),
        limits: contract.origin_limits.clone(),
        guaranteed_bytes: contract.guaranteed_bytes,
        origin,
    }
}

impl Follower {
    pub(super) async fn run(mut self, mut gates: Gates, stopping: CancellationToken) {
        loop {
            self.apply_changes(&mut gates);
            tokio::select! {
                () = stopping.cancelled() => return,
                Ok(()) = self.views.changed() => {}
                Ok(()) = self.registered.changed() => {}
                Ok(()) = self.superseded.changed() => {}
                Ok(()) = self.connected.changed() => {}
                () = sleep(MAINTENANCE_INTERVAL) => self.maintain(),
            }
        }
    }

    fn apply_changes(&mut self, gates: &mut Gates) {
        self.metrics.registry_connected.set((*self.connected.borrow_and_update()).into());
        // A container that restarts finds the key of its predecessor, and is in the ring by that.
        if *self.registered.borrow_and_update() && !self.visibility.may_lack_members() {
            gates.registered.take().into_iter().for_each(Gate::open);
        }
        let superseded = *self.superseded.borrow_and_update();
        if superseded {
            self.ready.close("superseded by a newer pod of this name");
        }
        let view = self.views.borrow_and_update().clone();
        self.metrics.set_held(view.distrusted, !view.departed.is_empty());
        let own = view.members.get(&self.identity.name);
        let is_joined = own.is_some_and(|own| own.metadata.uid == self.identity.uid);
        if superseded || (own.is_some() && !is_joined) {
            return self.leave_ring();
        }
        let applied = self.applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, &view));
        if view.revision == 0 || applied {
            return;
        }
        // Groups first: a member that the ring makes an owner must know the group.
        self.groups.apply(&self.cache, &view.groups);
        self.snapshots.iter().for_each(Snapshots::begin);
        self.cache.peers().update(view.revision, &view.members);
        if is_joined {
            gates.joined.take().into_iter().for_each(Gate::open);
        }
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = unix_time.map_or(0, |elapsed| elapsed.as_secs());
        self.metrics.last_event_seconds.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.applied = Some(view);
    }

    /// Another pod has this member's name: the others send it the keys and the invalidations of
    /// that name, so nothing here may be served. Requests are refused as not joined.
    fn leave_ring(&mut self) {
        if self.applied.take().is_some() {
            self.cache.leave();
            self.cache.peers().update(0, &BTreeMap::new());
        }
    }

    /// Does what no event triggers.
    fn maintain(&self) {
        let Some(view) = &self.applied else { return };
        if self.cache.has_group_to_retry() {
            self.groups.apply(&self.cache, &view.groups);
        }
        // A lease is a hint: a member that lost it and still answers is kept for the grace time.
        self.cache.peers().report_departed(view.departed.keys());
    }
}
