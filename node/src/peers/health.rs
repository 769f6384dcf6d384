//! Whether a peer answers. A lease says that it should; only answers say that it does.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Up until the first call without an answer; up again after a probe was answered.
#[derive(Debug)]
pub(super) struct Health {
    /// The same as `changes` holds; read on every forward.
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

    /// True for the caller who turned it down, and who has to see to its recovery.
    pub(super) fn down(&self) -> bool {
        let turned = self.up.swap(false, Ordering::Relaxed);
        self.changes.send_replace(false);
        turned
    }

    pub(super) fn up(&self) {
        self.up.store(true, Ordering::Relaxed);
        self.changes.send_replace(true);
    }

    /// Returns when the peer is down.
    pub(super) async fn went_down(&self) {
        // The sender is ours, so it is not gone.
        _ = self.changes.subscribe().wait_for(|up| !up).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_caller_turns_a_peer_down() {
        let health = Health::new();
        assert!(health.down());
        assert!(!health.down());
        health.went_down().await;
        health.up();
        assert!(health.is_up() && health.down());
    }
}
