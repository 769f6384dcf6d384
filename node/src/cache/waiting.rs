//! Bounds the number of requests that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::Error;
use crate::origin::Requester;

/// Counts the requests that wait, over all groups. Never more than `max` of each kind, so that
/// neither kind can take the places of the other.
pub(super) struct WaitingRequests {
    counts: [AtomicUsize; 2],
    max: usize,
}

/// A place among the waiting requests, released on drop.
pub(super) struct Place {
    waiting: Arc<WaitingRequests>,
    requester: Requester,
}

impl WaitingRequests {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Default::default(), max })
    }

    pub(super) fn count(&self, requester: Requester) -> usize {
        self.counts[requester as usize].load(Ordering::Relaxed)
    }

    /// Takes a place. Called before a flight is joined, so that a refused request starts no work.
    pub(super) fn enter(self: &Arc<Self>, requester: Requester) -> Result<Place, Error> {
        let max = self.max;
        // Created before the check, so that a refusal releases it too.
        let place = Place { waiting: self.clone(), requester };
        if self.counts[requester as usize].fetch_add(1, Ordering::Relaxed) >= max {
            return Err(Error::Overloaded { max });
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.counts[self.requester as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
