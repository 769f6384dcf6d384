//! A request that waits for a flight: bounded in number, each with its own deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_proto::v1::Source as From;
use tokio::time::Instant;

use super::group::{Group, Outcome};
use super::{Answer, Awaited, Cache, Error, Hop};
use crate::flight::{self, Flight};
use crate::metrics::Outcome as Counted;

/// Requests that wait, all groups together. Never more than `max`.
pub(super) struct Waiting {
    count: AtomicUsize,
    max: usize,
}

/// A place among the requests that wait; given back when dropped.
pub(super) struct Place(Arc<Waiting>);

/// A read whose key is in flight.
pub struct Wait {
    flight: Flight<Outcome>,
    group: Arc<Group>,
    hop: Hop,
    awaited: Awaited,
    not_owner: bool,
    _place: Place,
}

impl Waiting {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), max })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Taken before a flight is joined, so that a refused request starts no work.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place, Error> {
        let max = self.max;
        // The place exists before the count is judged, so that a refusal gives it back too.
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

impl Cache {
    /// Requests that wait for a load or a peer now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.count()
    }
}

impl Wait {
    pub(super) fn new(
        place: Place,
        flight: Flight<Outcome>,
        group: &Arc<Group>,
        hop: Hop,
        awaited: Awaited,
        not_owner: bool,
    ) -> Self {
        Self { flight, group: group.clone(), hop, awaited, not_owner, _place: place }
    }

    /// The outcome, waited for until `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`], or what the load or the owner ended with.
    ///
    /// # Cancel safety
    /// Safe: the load goes on.
    pub async fn answer(self, deadline: Instant) -> Result<Answer, Error> {
        let outcome = match self.flight.outcome(deadline).await {
            Ok(outcome) => outcome,
            Err(flight::Error::Deadline) => Err(Error::Deadline { awaited: self.awaited }),
            Err(flight::Error::Lost | flight::Error::Full { .. }) => Err(Error::Stopping),
        };
        if self.hop == Hop::Client {
            self.group.metrics.count(counted(&outcome));
        }
        outcome.map(|answer| Answer { not_owner: self.not_owner || answer.not_owner, ..answer })
    }
}

/// What a read that had to wait counts as.
fn counted(outcome: &Outcome) -> Counted {
    match outcome {
        Err(_) => Counted::Error,
        Ok(answer) if answer.stale => Counted::Stale,
        Ok(answer) => match answer.source {
            From::Loaded => Counted::Miss,
            From::Local => Counted::HitLocal,
            From::Hot => Counted::HitHot,
            From::Owner | From::Absent | From::Stale | From::Unspecified => Counted::HitPeer,
        },
    }
}

impl std::fmt::Debug for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").field("group", &self.group.name).finish_non_exhaustive()
    }
}
