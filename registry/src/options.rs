//! Limits and timings of a registry.

use std::time::Duration;

use larder_runtime::random::Random;

/// Limits and timings. The defaults are etcd's where etcd has one.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Number of revisions kept for watches that resume. Older ones are compacted.
    pub history_revisions: usize,
    /// Minimum TTL of a lease, in seconds. A request for less is granted the minimum.
    pub min_lease_ttl_seconds: u32,
    /// Interval of progress notifications to idle watches that requested them.
    pub progress_interval: Duration,
    /// Source of ids. Equal seeds give equal ids.
    pub random: Random,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            history_revisions: 10_000,
            min_lease_ttl_seconds: 2,
            progress_interval: Duration::from_secs(600),
            random: Random::from_entropy(),
        }
    }
}
