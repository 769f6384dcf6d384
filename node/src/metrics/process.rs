//! The version of this process and the resources that it uses.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Registry};

use super::register::{opts, register};

/// Registers `larder_build_info` and, where the system provides them, the `process_*` metrics.
pub fn register_process(registry: &Registry) {
    let info = IntGaugeVec::new(
        opts("build_info", "Always 1; the label names the program's version."),
        &["version"],
    )
    .expect("valid names");
    register(registry, info).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .expect("registered once in a registry");
}
