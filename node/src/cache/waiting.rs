//! Bounds the number of requests that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Error;

/// Counts the requests that wait, over all groups. Never more than `max`.
pub(super) struct WaitingRequests {
    count: AtomicUsize,
    max: usize,
}

/// A place among the waiting requests, released on drop.
pub(super) struct Place(Arc<WaitingRequests>);

impl WaitingRequests {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), max })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes a place. Called before a flight is joined, so that a refused request starts no work.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, Error> {
        let max = self.max;
        // Created before the check, so that a refusal releases it too.
        let place = Place(self.clone());
        if self.count.fetch_add(1, Ordering::Relaxed) >= max {
            return Err(Error::Overloaded { max });
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}
