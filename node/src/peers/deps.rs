//! What the peers need from their member.

use std::sync::Arc;
use std::time::Duration;

use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;

use super::past::Past;
use super::transport::Transport;
use crate::metrics::RingMetrics;

pub(crate) struct PeerDeps {
    /// Name of this member.
    pub(crate) member: Arc<str>,
    /// Uid of its pod.
    pub(crate) uid: Arc<str>,
    pub(crate) transport: Arc<dyn Transport>,
    /// Batches, syncs and forwards run here.
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) metrics: RingMetrics,
    /// Limit of a call that waits for a load at the owner.
    pub(crate) load_timeout: Duration,
    /// Memory for entries, which bounds that of the log of invalidations.
    pub(crate) capacity_bytes: u64,
    /// What the previous process left; the default if nothing.
    pub(crate) past: Past,
}
