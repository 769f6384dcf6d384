//! Registration of collectors, and the prefix of their names.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntGauge, Opts, Registry};

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry
        .register(Box::new(collector.clone()))
        .expect("each area registers once in a registry, under unique names");
    collector
}

/// Options of the metric `larder_{name}`.
pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("larder")
}

/// The registered counter `larder_{name}`, without labels.
pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::with_opts(opts(name, help)).expect("valid names"))
}

/// The registered gauge `larder_{name}`, without labels.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::with_opts(opts(name, help)).expect("valid names"))
}
