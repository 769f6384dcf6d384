//! Whether a member may exist that neither knows of this one nor is known here.
//!
//! A member that starts lists the registry and calls every member whose key it finds. So this
//! member knows of every other one while
//!
//! 1. its own key exists under a live lease: a member that starts later finds the key and calls;
//! 2. its view covers the revision of that key: a member that started earlier is in the view.
//!
//! Both end when the registry is out of reach for longer than a lease. A lease that somebody revokes
//! is known to be gone at the next renewal only.

use std::sync::Arc;
use std::time::Duration;

use larder_runtime::clock::Clock;
use parking_lot::Mutex;

use super::board::Board;

/// Follows this member's registration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Visibility {
    board: Arc<Board>,
    clock: Clock,
    lease_ttl_ms: u64,
    registration: Arc<Mutex<Registration>>,
}

/// This member's key as far as the registry confirmed it.
#[derive(Debug, Clone, Copy, Default)]
struct Registration {
    /// The lease lives at least until then, ms.
    lease_until_ms: u64,
    /// Revision of the key; `None` without one.
    written: Option<u64>,
}

impl Visibility {
    pub(super) fn new(board: Arc<Board>, clock: Clock, lease_ttl: Duration) -> Self {
        let lease_ttl_ms = u64::try_from(lease_ttl.as_millis()).unwrap_or(u64::MAX);
        Self { board, clock, lease_ttl_ms, registration: Arc::default() }
    }

    /// True if a member may have started that this one does not know of.
    #[must_use]
    pub fn may_lack_members(&self) -> bool {
        let registration = *self.registration.lock();
        let (now_ms, seen) = (self.clock.now_ms(), self.board.view().seen());
        !registration.proves_completeness(now_ms, seen)
    }

    /// Reads the time for [`Visibility::lease_confirmed`].
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The registry confirmed a grant or renewal that was sent at `sent_ms`.
    pub(super) fn lease_confirmed(&self, sent_ms: u64) {
        self.registration.lock().lease_until_ms = sent_ms.saturating_add(self.lease_ttl_ms);
    }

    /// The registry has this member's key since `revision`.
    pub(super) fn registered(&self, revision: u64) {
        self.registration.lock().written = Some(revision);
    }

    /// The key is gone, or will be.
    pub(super) fn lost(&self) {
        *self.registration.lock() = Registration::default();
    }
}

impl Registration {
    /// For a view that covers every change up to the revision `seen`.
    fn proves_completeness(&self, now_ms: u64, seen: u64) -> bool {
        now_ms < self.lease_until_ms && self.written.is_some_and(|written| seen >= written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_a_live_lease_or_without_a_view_of_its_own_key_may_lack_members() {
        let registered = Registration { lease_until_ms: 3_000, written: Some(7) };
        assert!(registered.proves_completeness(2_999, 7));
        assert!(registered.proves_completeness(0, 8));
        assert!(!registered.proves_completeness(3_000, 8), "its key may be gone");
        assert!(!registered.proves_completeness(0, 6), "a member may have started before");
        assert!(!Registration::default().proves_completeness(0, 8));
        let unwritten = Registration { written: None, ..registered };
        assert!(!unwritten.proves_completeness(0, 8));
    }
}
