//! The connection to one peer: whether the peer answers, and which invalidations it missed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_backoff::{Backoff, BackoffPolicy};
use larder_proto::v1::{DropRequest, FetchRequest};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::context::PeerContext;
use super::health::Health;
use super::transport::PeerConnection;
use crate::metrics::PeerMetrics;

/// A peer that gives no answer within this time is bypassed, so that a read waits for a dead owner
/// half a second at most.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Groups remembered for which a peer missed an invalidation. Beyond the bound further groups are
/// counted, not remembered.
const MAX_MISSED_GROUPS: usize = 10_000;

/// Shared by the tasks of one peer.
pub(super) struct Link {
    pub(super) name: Arc<str>,
    /// `None` if the registered address is invalid.
    pub(super) connection: Option<Arc<dyn PeerConnection>>,
    pub(super) health: Health,
    pub(super) metrics: PeerMetrics,
    pub(super) context: Arc<PeerContext>,
    /// Groups of which the peer missed an invalidation. It drops them before it is asked again.
    missed: Mutex<BTreeSet<String>>,
}

impl Link {
    /// Must be called on a runtime.
    pub(super) fn new(name: &str, address: &str, context: Arc<PeerContext>) -> Self {
        let connection = context.transport.open(address);
        if let Err(error) = &connection {
            tracing::warn!(peer = name, address, %error, "peer address is invalid");
        }
        Self {
            name: name.into(),
            connection: connection.ok(),
            health: Health::new(),
            metrics: context.metrics.peer(name),
            missed: Mutex::default(),
            context,
        }
    }

    /// Asks the peer to drop keys (none: the whole group). True if it confirmed.
    pub(super) async fn drop_keys(&self, group: &str, keys: Vec<Bytes>) -> bool {
        let Some(connection) = &self.connection else { return false };
        let from = self.context.member.to_string();
        let request = DropRequest { from, group: group.to_owned(), keys };
        matches!(timeout(ANSWER_TIMEOUT, connection.drop_keys(request)).await, Ok(Ok(_)))
    }

    /// Remembers that the peer did not confirm an invalidation of `group`.
    pub(super) fn record_missed(&self, group: &str) {
        self.context.metrics.drops_missed.inc();
        let mut missed = self.missed.lock();
        if missed.len() < MAX_MISSED_GROUPS {
            missed.insert(group.to_owned());
        }
    }

    /// Bypasses the peer from now on and probes it in the background until it answers.
    pub(super) fn mark_down(self: &Arc<Self>) {
        const RETRY: Result<BackoffPolicy, larder_backoff::Error> =
            BackoffPolicy::new(Duration::from_millis(100), 2, Duration::from_secs(2), 20);
        if !self.health.mark_down() {
            return;
        }
        self.context.metrics.peers_down.inc();
        self.report(false);
        tracing::warn!(peer = %self.name, "peer does not answer, bypassing it");
        let random = self.context.random.clone();
        let link = Arc::downgrade(self);
        self.context.tasks.spawn("probe", async move {
            let mut backoff = Backoff::new(RETRY.expect("a valid policy"));
            loop {
                tokio::time::sleep(backoff.next_delay(random.ratio())).await;
                // The link is gone once the peer has left the ring.
                let Some(link) = link.upgrade() else { return };
                if link.context.tasks.stopping().is_cancelled() {
                    return;
                }
                if link.recover().await {
                    tracing::info!(peer = %link.name, "peer answers again");
                    link.health.mark_up();
                    link.report(true);
                    return;
                }
            }
        });
    }

    /// Sends an empty request. True if the peer answers it.
    pub(super) async fn ping(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let request = FetchRequest { from: self.context.member.to_string(), ..Default::default() };
        matches!(timeout(ANSWER_TIMEOUT, connection.fetch(request)).await, Ok(Ok(_)))
    }

    /// Passes on whether the peer answered.
    pub(super) fn report(&self, answered: bool) {
        if let Some(listener) = self.context.health_listener.get() {
            listener(&self.name, answered);
        }
    }

    /// True once the peer answers and has dropped every group that it missed.
    async fn recover(&self) -> bool {
        if !self.ping().await {
            return false;
        }
        let missed: Vec<String> = self.missed.lock().iter().cloned().collect();
        for group in missed {
            if !self.drop_keys(&group, Vec::new()).await {
                return false;
            }
            self.missed.lock().remove(&group);
        }
        true
    }
}
