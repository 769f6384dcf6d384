//! What every peer's client shares.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;

use super::transport::Transport;
use crate::metrics::RingMetrics;

/// Called with a member's name and whether it answered: once for each change, and for each probe
/// of a departed member.
pub(crate) type HealthListener = Box<dyn Fn(&str, bool) + Send + Sync>;

pub(crate) struct PeerContext {
    /// Name of this member.
    pub(crate) member: Arc<str>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) tasks: Tasks,
    pub(crate) random: Random,
    pub(crate) metrics: RingMetrics,
    /// Limit of a call that waits for a load at the owner.
    pub(crate) load_timeout: Duration,
    /// Set at most once, when the membership starts.
    pub(crate) health_listener: OnceLock<HealthListener>,
}
