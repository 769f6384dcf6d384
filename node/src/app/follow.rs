//! Carries what membership publishes to those who act on it: members to the ring, contracts to the
//! cache, readiness to the probes. Membership itself calls nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use larder_engine::PolicyKind;
use larder_proto::contract::GroupContract;
use larder_runtime::ready::{Gate, Ready};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Plan, Source};
use crate::config::{Config, Identity};
use crate::membership::View;
use crate::metrics::RingMetrics;
use crate::origin::{self, Bulkhead, Credentials, Loader};

/// Between two looks at what time alone changes: departed members to ask, origins to try again.
const INTERVAL: Duration = Duration::from_millis(500);

/// Groups from the registry, and those of the embedding program.
pub(super) struct Groups {
    given: BTreeMap<String, Plan>,
    credentials: Credentials,
    max_value_bytes: usize,
}

/// What readiness waits for. Opened once; the registry is never asked again.
pub(super) struct Gates {
    registered: Option<Gate>,
    joined: Option<Gate>,
}

/// Follows the View until the node stops.
pub(super) struct Follower {
    pub(super) views: watch::Receiver<Arc<View>>,
    pub(super) registered: watch::Receiver<bool>,
    pub(super) connected: watch::Receiver<bool>,
    pub(super) identity: Identity,
    pub(super) cache: Cache,
    pub(super) groups: Groups,
    pub(super) metrics: RingMetrics,
    /// The View that was carried on last.
    pub(super) applied: Option<Arc<View>>,
}

impl Gates {
    pub(super) fn new(ready: &Ready) -> Self {
        Self { registered: Some(ready.gate("registered")), joined: Some(ready.gate("ring joined")) }
    }
}

impl Groups {
    pub(super) fn new(config: &Config, given: BTreeMap<String, Plan>) -> Self {
        Self {
            given,
            credentials: Credentials::new(&config.credentials_directory),
            max_value_bytes: config.limits.max_value_bytes,
        }
    }

    /// Makes the cache's groups what the contracts and the embedding program say.
    pub(super) fn apply(&self, cache: &Cache, contracts: &BTreeMap<String, GroupContract>) {
        let mut plans = self.given.clone();
        for (name, contract) in contracts {
            let given = self.given.get(name).map(|plan| plan.origin.clone());
            let origin = given.unwrap_or_else(|| Source::Described(contract.origin.clone()));
            plans.insert(name.clone(), plan(name, contract, origin));
        }
        cache.set_groups(&plans, &|plan| self.loader(plan));
    }

    /// The plan's loader behind its bulkhead.
    fn loader(&self, plan: &Plan) -> Result<Arc<dyn Loader>, Arc<str>> {
        match &plan.origin {
            Source::Given(loader) => Ok(Arc::new(Bulkhead::new(loader.clone(), &plan.limits))),
            Source::Described(origin) => {
                let max = self.max_value_bytes;
                let loader = origin::build(origin, &plan.limits, &self.credentials, max)
                    .map_err(|error| Arc::from(error.to_string()))?;
                loader.warm();
                Ok(loader)
            }
        }
    }
}

fn plan(name: &str, contract: &GroupContract, origin: Source) -> Plan {
    let policy = contract.policy.parse().unwrap_or_else(|_| {
        let policy = PolicyKind::default();
        tracing::warn!(group = name, wanted = contract.policy, used = %policy, "unknown policy");
        policy
    });
    Plan {
        policy,
        freshness: contract.freshness.clone(),
        limits: contract.origin_limits.clone(),
        origin,
    }
}

impl Follower {
    pub(super) async fn run(mut self, mut gates: Gates, stopping: CancellationToken) {
        loop {
            self.look(&mut gates);
            tokio::select! {
                () = stopping.cancelled() => return,
                Ok(()) = self.views.changed() => {}
                Ok(()) = self.registered.changed() => {}
                Ok(()) = self.connected.changed() => {}
                () = sleep(INTERVAL) => self.between().await,
            }
        }
    }

    fn look(&mut self, gates: &mut Gates) {
        self.metrics.registry_connected.set((*self.connected.borrow_and_update()).into());
        if *self.registered.borrow_and_update() {
            gates.registered.take().into_iter().for_each(Gate::open);
        }
        let view = self.views.borrow_and_update().clone();
        self.metrics.hold(view.distrusted, !view.departed.is_empty());
        let applied = self.applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, &view));
        if view.revision == 0 || applied {
            return;
        }
        // Groups first: an owner in the ring should know what it owns.
        self.groups.apply(&self.cache, &view.groups);
        self.cache.peers().update(view.revision, &view.members);
        let me = view.members.get(&self.identity.name);
        if me.is_some_and(|me| me.metadata.uid == self.identity.uid) {
            gates.joined.take().into_iter().for_each(Gate::open);
        }
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_1970.map_or(0, |elapsed| elapsed.as_secs());
        self.metrics.last_event_seconds.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.applied = Some(view);
    }

    /// What time alone changes.
    async fn between(&self) {
        let view = self.views.borrow().clone();
        if self.cache.has_broken_group() {
            self.groups.apply(&self.cache, &view.groups);
        }
        // A lease is a hint: whoever lost it and still answers stays in the ring for a while.
        self.cache.peers().ask_departed(view.departed.keys()).await;
    }
}
