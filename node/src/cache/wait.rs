//! Reads that wait for a flight, each with its own deadline.

use std::sync::Arc;

use larder_proto::v1::Source;
use tokio::time::Instant;

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::{Group, LoadOutcome};
use super::shared::Cache;
use super::waiting::Place;
use crate::flight::{self, Flight};
use crate::metrics::CountedAs;
use crate::origin::Requester;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An application. Its request may be forwarded, once.
    Application,
    /// Another member that takes this one for the key's owner. Never forwarded again. If
    /// `asks_once`, it has no time to ask again when the deadline has passed, so a stale answer is
    /// better than none.
    #[expect(missing_docs, reason = "explained above")]
    Peer { asks_once: bool },
    /// This member, for an application, in place of an owner that does not answer. The
    /// application's own wait counts the read.
    StandIn,
}

impl Caller {
    /// Whose limits apply.
    pub(super) fn requester(self) -> Requester {
        match self {
            Self::Application | Self::StandIn => Requester::Application,
            Self::Peer { .. } => Requester::Peer,
        }
    }
}

/// How far a read came without waiting.
#[derive(Debug)]
pub enum Lookup {
    /// The result.
    Done(Result<Answer, Error>),
    /// The key is in flight.
    Wait(Wait),
}

/// A read whose key is in flight.
pub struct Wait {
    flight: Flight<LoadOutcome>,
    read: WaitingRead,
}

struct WaitingRead {
    group: Arc<Group>,
    caller: Caller,
    awaited: Awaited,
    not_owner: bool,
    /// Set if the key has an entry that may be answered in place of an error.
    stale_if_error: Option<StaleIfError>,
    _place: Place,
}

/// Finds the entry again when the wait has failed: it may be invalidated or too old by then.
struct StaleIfError {
    cache: Cache,
    key: Box<[u8]>,
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
        let (group, stale_if_error) = (group.clone(), None);
        let read = WaitingRead { group, caller, awaited, not_owner, stale_if_error, _place: place };
        Self { flight, read }
    }

    /// Answers the key's entry in `cache` in place of an error, if the group's freshness allows it.
    pub(super) fn or_stale(mut self, cache: &Cache, key: &[u8]) -> Self {
        self.read.stale_if_error = Some(StaleIfError { cache: cache.clone(), key: key.into() });
        self
    }

    /// Waits for the result until `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`], or the error of the load or of the owner.
    ///
    /// # Cancel safety
    /// Safe: the load continues.
    pub async fn answer(self, deadline: Instant) -> Result<Answer, Error> {
        self.read.finish(self.flight.outcome(deadline).await)
    }

    /// Waits for the result until `end` is ready. Otherwise as [`Wait::answer`].
    pub(super) async fn answer_before(self, end: impl Future<Output = ()>) -> LoadOutcome {
        self.read.finish(self.flight.outcome_before(end).await)
    }
}

impl WaitingRead {
    fn finish(self, outcome: Result<LoadOutcome, flight::Error>) -> LoadOutcome {
        let outcome = flatten(outcome, self.awaited);
        let outcome = outcome.or_else(|error| self.stale_answer(&error).ok_or(error));
        if self.caller == Caller::Application {
            self.group.metrics.count(counted_as(&outcome));
        }
        outcome.map(|answer| Answer { not_owner: self.not_owner || answer.not_owner, ..answer })
    }

    fn stale_answer(&self, error: &Error) -> Option<Answer> {
        let asks_again = self.caller == Caller::Peer { asks_once: false };
        if asks_again && matches!(error, Error::Deadline { .. }) {
            return None;
        }
        let StaleIfError { cache, key } = self.stale_if_error.as_ref()?;
        cache.in_place_of(error, &self.group, key)
    }
}

/// The outcome of a flight, with the flight's own errors translated.
pub(super) fn flatten(
    outcome: Result<LoadOutcome, flight::Error>,
    awaited: Awaited,
) -> LoadOutcome {
    match outcome {
        Ok(outcome) => outcome,
        Err(flight::Error::Deadline) => Err(Error::Deadline { awaited }),
        Err(flight::Error::Lost | flight::Error::Full { .. }) => Err(Error::Stopping),
    }
}

/// The metric label of a read.
pub(super) fn counted_as(outcome: &LoadOutcome) -> CountedAs {
    match outcome {
        Err(_) => CountedAs::Error,
        Ok(answer) if answer.is_stale() => CountedAs::Stale,
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
        f.debug_struct("Wait").field("group", &self.read.group.name).finish_non_exhaustive()
    }
}
