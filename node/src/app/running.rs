//! A running node and its drain.

use std::sync::Arc;
use std::time::Duration;

use larder_runtime::ready::Ready;
use larder_runtime::tasks::Failure;
use prometheus::Registry;
use tokio::time::Instant;

use super::background::{Background, BackgroundTasks};
use super::node::Addresses;
use crate::cache::Cache;
use crate::membership::Membership;
use crate::serve::Workers;
use crate::snapshot::Snapshots;

/// The part of the grace time in which a member that has left hands over its entries.
const HAND_OVER_DIVISOR: u32 = 2;
/// After its lease is revoked, a member still serves for `grace / LINGER_DIVISOR`, at most
/// `LINGER_MAX`, until peers and load balancers have noticed.
const LINGER_DIVISOR: u32 = 8;
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Least time for background tasks after requests used up the grace time.
const TASKS_GRACE_MIN: Duration = Duration::from_secs(1);

/// A running node. If dropped without [`Running::drain`] it stops at once, as in a crash.
pub struct Running {
    pub(super) addresses: Addresses,
    pub(super) cache: Option<Cache>,
    pub(super) membership: Option<Membership>,
    pub(super) snapshots: Option<Arc<Snapshots>>,
    pub(super) ready: Ready,
    pub(super) metrics: Registry,
    pub(super) failure: Failure,
    pub(super) tasks: BackgroundTasks,
    pub(super) workers: Workers,
    pub(super) background: Background,
    pub(super) grace: Duration,
}

impl Running {
    /// Addresses on which the node listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The member's cache, for reads without a network; `None` for a sidecar.
    #[must_use]
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Readiness, with what it still waits for.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Every metric of this node.
    #[must_use]
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// Waits until a vital task panics. The node is then no longer ready, and should be drained and
    /// started again.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&self) {
        self.failure.wait().await;
    }

    #[cfg(test)]
    pub(crate) fn panic_in_background(&self) {
        self.tasks.upkeep.spawn_vital("planned", async { panic!("planned") });
    }

    /// Stops in order, within about the configured grace time. True if nothing was cut short.
    ///
    /// # Cancel safety
    /// If dropped early, the node stops at once.
    pub async fn drain(self) -> bool {
        let Self { cache, membership, snapshots, ready, tasks, workers, mut background, .. } = self;
        let grace = self.grace;
        // The health service follows.
        ready.close("draining");
        let has_peers = cache.as_ref().is_some_and(|c| !c.peers().view().peers().is_empty());
        if let Some(membership) = membership {
            membership.leave().await;
        }
        let end = Instant::now() + grace;
        if let Some(cache) = cache.filter(|_| has_peers) {
            // Peers forward to this member until they see that it left, so it still answers.
            let linger = tokio::time::sleep((grace / LINGER_DIVISOR).min(LINGER_MAX));
            tokio::join!(linger, cache.handed_over(grace / HAND_OVER_DIVISOR));
        }
        let served = workers.stop(end.saturating_duration_since(Instant::now())).await;
        if let Some(snapshots) = snapshots {
            snapshots.finish().await;
        }
        // The tasks that requests waited for have finished; the others end quickly.
        let tasks_grace = end.saturating_duration_since(Instant::now()).max(TASKS_GRACE_MIN);
        let finished = tasks.stop(tasks_grace).await;
        if let Err(unfinished) = finished {
            tracing::warn!(%unfinished, "stopping all the same");
        }
        background.join();
        served && finished.is_ok()
    }
}
