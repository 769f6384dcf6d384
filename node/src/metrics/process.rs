//! Who this process is and what it uses.

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntGaugeVec, Registry};

use super::{opts, register as add};

/// Registers `larder_build_info` and, where the system tells them, the `process_*` metrics.
pub fn register(registry: &Registry) {
    let info = IntGaugeVec::new(
        opts("build_info", "Always 1; the labels tell the program's version."),
        &["version"],
    )
    .expect("valid names");
    add(registry, info).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .expect("registered once in a registry of its own");
}
