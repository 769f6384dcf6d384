//! Whether a peer answers. A lease promises it; only an answer proves it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Up until the first unanswered call; up again after an answered probe.
#[derive(Debug)]
pub(super) struct Health {
    /// Mirrors `changes`; read on every forward.
    up: AtomicBool,
    changes: watch::Sender<bool>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { up: AtomicBool::new(true), changes: watch::Sender::new(true) }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// True for the caller that turned it down: that caller starts the probe.
    pub(super) fn mark_down(&self) -> bool {
        let turned = self.up.swap(false, Ordering::Relaxed);
        self.changes.send_replace(false);
        turned
    }

    pub(super) fn mark_up(&self) {
        self.up.store(true, Ordering::Relaxed);
        self.changes.send_replace(true);
    }

    /// Returns once the peer is down.
    pub(super) async fn wait_until_down(&self) {
        // `self` owns the sender, so the channel cannot close.
        _ = self.changes.subscribe().wait_for(|up| !up).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_caller_turns_a_peer_down() {
        let health = Health::new();
        assert!(health.mark_down());
        assert!(!health.mark_down());
        health.wait_until_down().await;
        health.mark_up();
        assert!(health.is_up() && health.mark_down());
    }
}
