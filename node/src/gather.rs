//! A request for several keys, while their reads start.
//!
//! The reads start one after the other, and their loads and forwards run on other threads. Without
//! this module a batch call would begin with the first key and leave the rest for a second call. So
//! a batch that has a key of a request waits until the request's other keys are in their batches
//! too. A request for one key is not gathered, and its batch waits for nothing.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Longest wait of a batch for the other keys of a request. They come within microseconds, unless
/// the thread that starts their reads is stalled.
pub const GATHER_TIME: Duration = Duration::from_millis(50);

/// The keys of one request. Clones share it.
#[derive(Debug, Clone)]
pub struct Gathering(TaskTracker);

/// One key of a [`Gathering`] on its way to a batch, or the request itself while it starts its
/// reads. Dropped on arrival.
#[derive(Debug)]
pub struct GatheredKey {
    gathering: Gathering,
    _token: TaskTrackerToken,
}

impl Gathering {
    /// A gathering without keys, which is complete.
    #[must_use]
    pub fn new() -> Self {
        let tracker = TaskTracker::new();
        // Closed means that the wait ends when no key is left. It refuses no key.
        tracker.close();
        Self(tracker)
    }

    /// Adds a key. The gathering is incomplete until the key is dropped.
    #[must_use]
    pub fn key(&self) -> GatheredKey {
        GatheredKey { gathering: self.clone(), _token: self.0.token() }
    }

    /// True if no key is on its way.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until no key is on its way.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn complete(&self) {
        self.0.wait().await;
    }

    /// True for clones of one gathering.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        TaskTracker::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Gathering {
    fn default() -> Self {
        Self::new()
    }
}

impl GatheredKey {
    /// The gathering of the key. A batch keeps it to wait for the rest; the key itself is dropped
    /// once it is in the batch, not earlier.
    #[must_use]
    pub fn gathering(&self) -> &Gathering {
        &self.gathering
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_gathering_is_complete_when_every_key_is_dropped() {
        let gathering = Gathering::new();
        assert!(gathering.is_complete());
        let (request, a, b) = (gathering.key(), gathering.key(), gathering.key());
        assert!(a.gathering().is_same(&gathering) && !gathering.is_same(&Gathering::new()));
        drop((request, a));
        assert!(gathering.complete().now_or_never().is_none(), "a key is on its way");
        drop(b);
        gathering.complete().await;
        let late = gathering.key();
        assert!(!gathering.is_complete());
        drop(late);
    }
}
