//! Requests that wait for a flight: bounded in number, each with its own deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_proto::v1::Source;
use tokio::time::Instant;

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::{Group, LoadOutcome};
use crate::flight::{self, Flight};
use crate::metrics::CountedAs;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An application. Its request may be forwarded, once.
    Application,
    /// Another member that takes this one for the key's owner. Never forwarded again.
    Peer,
}

/// How far a read came without waiting.
#[derive(Debug)]
pub enum Lookup {
    /// The result.
    Done(Result<Answer, Error>),
    /// The key is in flight.
    Wait(Wait),
}

/// Counts the requests that wait, over all groups. Never more than `max`.
pub(super) struct WaitingRequests {
    count: AtomicUsize,
    max: usize,
}

/// A place among the waiting requests, released on drop.
pub(super) struct Place(Arc<WaitingRequests>);

/// A read whose key is in flight.
pub struct Wait {
    flight: Flight<LoadOutcome>,
    group: Arc<Group>,
    caller: Caller,
    awaited: Awaited,
    not_owner: bool,
    _place: Place,
}

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

impl Wait {
    pub(super) fn new(
        place: Place,
        flight: Flight<LoadOutcome>,
        group: &Arc<Group>,
        caller: Caller,
        awaited: Awaited,
        not_owner: bool,
    ) -> Self {
        Self { flight, group: group.clone(), caller, awaited, not_owner, _place: place }
    }

    /// Waits for the result until `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`], or the error of the load or of the owner.
    ///
    /// # Cancel safety
    /// Safe: the load continues.
    pub async fn answer(self, deadline: Instant) -> Result<Answer, Error> {
        let outcome = wait_for(self.flight, deadline, self.awaited).await;
        if self.caller == Caller::Application {
            self.group.metrics.count(counted_as(&outcome));
        }
        outcome.map(|answer| Answer { not_owner: self.not_owner || answer.not_owner, ..answer })
    }
}

/// The outcome of a flight, with the flight's own errors translated.
pub(super) async fn wait_for(
    flight: Flight<LoadOutcome>,
    deadline: Instant,
    awaited: Awaited,
) -> LoadOutcome {
    match flight.outcome(deadline).await {
        Ok(outcome) => outcome,
        Err(flight::Error::Deadline) => Err(Error::Deadline { awaited }),
        Err(flight::Error::Lost | flight::Error::Full { .. }) => Err(Error::Stopping),
    }
}

/// The metric label of a read that had to wait.
fn counted_as(outcome: &LoadOutcome) -> CountedAs {
    match outcome {
        Err(_) => CountedAs::Error,
        Ok(answer) if answer.stale => CountedAs::Stale,
        Ok(answer) => match answer.source {
            Source::Loaded => CountedAs::Miss,
            Source::Local => CountedAs::HitLocal,
            Source::Hot => CountedAs::HitHot,
            Source::Owner | Source::Absent | Source::Stale | Source::Unspecified => {
                CountedAs::HitPeer
            }
        },
    }
}

impl std::fmt::Debug for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").field("group", &self.group.name).finish_non_exhaustive()
    }
}
