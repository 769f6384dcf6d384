//! Registration of one collector, and the prefix of its name.

use prometheus::core::Collector;
use prometheus::{Opts, Registry};

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
