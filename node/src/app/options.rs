//! What an embedding program adds to the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::PolicyKind;
use larder_proto::contract::{Freshness, OriginLimits};
use larder_runtime::random::Random;

use super::tls::POLL_INTERVAL;
use crate::cache::{GroupPlan, OriginSource};
use crate::membership::RegistryClient;
use crate::origin::Loader;
use crate::peers::Transport;

/// Memory that replicas of other members' hottest entries may fill: an eighth.
const DEFAULT_REPLICA_PERCENT: u8 = 12;

/// Groups and other settings of an embedding program.
pub struct Options {
    pub(super) groups: BTreeMap<String, GroupPlan>,
    pub(super) random: Option<Random>,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) registry: Option<Arc<dyn RegistryClient>>,
    pub(super) replica_percent: u8,
    pub(super) certificate_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            random: None,
            transport: None,
            registry: None,
            replica_percent: DEFAULT_REPLICA_PERCENT,
            certificate_interval: POLL_INTERVAL,
        }
    }
}

impl Options {
    /// Adds a group with defaults: the engine's default policy, a TTL of one minute, five seconds
    /// for absent keys, and 32 concurrent loads with a limit of 5 s each.
    #[must_use]
    pub fn group(self, name: impl Into<String>, loader: impl Loader + 'static) -> Self {
        let freshness = Freshness {
            ttl_ms: 60_000,
            jitter_percent: 10,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 5_000,
            early_refresh_percent: 0,
        };
        let limits = OriginLimits::new(32, 5_000);
        self.group_with(name, loader, freshness, limits)
    }

    /// Adds a group. A `CacheGroup` of the same name overrides policy, freshness and limits, but
    /// not the loader.
    #[must_use]
    pub fn group_with(
        mut self,
        name: impl Into<String>,
        loader: impl Loader + 'static,
        freshness: Freshness,
        limits: OriginLimits,
    ) -> Self {
        let (policy, origin) = (PolicyKind::default(), OriginSource::Given(Arc::new(loader)));
        let guaranteed_bytes = 0;
        let plan = GroupPlan { policy, freshness, limits, guaranteed_bytes, origin };
        self.groups.insert(name.into(), plan);
        self
    }

    /// Draws every random number from `random`, which makes a test reproducible.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Reaches the other members through `transport` in place of gRPC, as a simulation does.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Joins the cluster through `registry` in place of etcd, as a simulation does. The
    /// configuration must name a registry too.
    #[must_use]
    pub fn registry(mut self, registry: Arc<dyn RegistryClient>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets the part of the memory for entries that replicas of other members' hottest entries may
    /// fill. 0 keeps none; the default is an eighth.
    #[must_use]
    pub fn replica_percent(mut self, percent: u8) -> Self {
        self.replica_percent = percent.min(100);
        self
    }

    /// Sets how often the files of the certificates are read again. The default is 5 s.
    #[must_use]
    pub fn certificate_interval(mut self, interval: Duration) -> Self {
        self.certificate_interval = interval;
        self
    }
}
