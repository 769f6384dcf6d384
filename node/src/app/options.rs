//! What an embedding program adds to the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::PolicyKind;
use larder_proto::contract::{Freshness, Origin, OriginLimits};
use larder_runtime::random::Random;

use crate::cache::{GroupPlan, OriginSource};
use crate::membership::RegistryClient;
use crate::origin::Loader;
use crate::peers::Transport;

/// Makes the loader of a described origin.
pub(super) type BuildOrigin = Box<dyn Fn(&Origin) -> Arc<dyn Loader> + Send + Sync>;

/// Groups and other settings of an embedding program.
#[derive(Default)]
pub struct Options {
    pub(super) groups: BTreeMap<String, GroupPlan>,
    pub(super) random: Option<Random>,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) registry: Option<Arc<dyn RegistryClient>>,
    pub(super) build_origin: Option<BuildOrigin>,
    pub(super) replica_percent: Option<u8>,
    pub(super) memory_limit_file: Option<PathBuf>,
    pub(super) certificate_interval: Option<Duration>,
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

    /// Makes the loaders of described origins with `build` in place of the clients of their
    /// protocols, as a simulation does.
    #[must_use]
    pub fn build_origin(
        mut self,
        build: impl Fn(&Origin) -> Arc<dyn Loader> + Send + Sync + 'static,
    ) -> Self {
        self.build_origin = Some(Box::new(build));
        self
    }

    /// Sets the part of the memory for entries that replicas of other members' hottest entries may
    /// fill, in place of the configuration's. 0 keeps none.
    #[must_use]
    pub fn replica_percent(mut self, percent: u8) -> Self {
        self.replica_percent = Some(percent.min(100));
        self
    }

    /// Reads the memory limit from `file` in place of the container's control group, if the
    /// configuration has `memoryBytes`.
    #[must_use]
    pub fn memory_limit_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.memory_limit_file = Some(file.into());
        self
    }

    /// Sets how often the files of the certificates are read again. The default is 5 s.
    #[must_use]
    pub fn certificate_interval(mut self, interval: Duration) -> Self {
        self.certificate_interval = Some(interval);
        self
    }
}
