//! Every metric of a node: names, labels, and handles that are resolved once.
//!
//! One register per area. Names and labels are contracts with dashboards; no label is ever a key,
//! an address or an error's text. Start at [`CacheMetrics`].

mod cache;
mod engine;
mod grpc;
mod process;
mod ring;

pub use cache::{CacheMetrics, GroupMetrics, Outcome, Where};
pub use engine::EngineCollector;
pub use grpc::{GrpcMetrics, Method, Timed};
pub use process::register as register_process;
use prometheus::core::Collector;
use prometheus::{Opts, Registry};
pub use ring::{PeerMetrics, RingMetrics};

/// Registers a collector of ours.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry
        .register(Box::new(collector.clone()))
        .expect("each area registers once in a registry of its own, under names of its own");
    collector
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("larder")
}
