//! One call: rounds of tries under one deadline.
//!
//! Life of a call: a permit; the members in their order; the first that answers ends it. When a
//! member fails, the next one is asked at once. When all failed, the call waits as the back-off
//! says, or less when a silent member answers again, and starts another round.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::client::Client;
use crate::error::{Error, Failure, root};
use crate::member::Member;
use crate::retry::{Verdict, judge};

/// Members that may answer "unavailable" in one round. More would only multiply the load on an
/// origin that fails: each of them asks the same owner.
const UNAVAILABLE_PER_ROUND: u32 = 2;

/// Who is asked first.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    /// The owner of a group's key.
    Key(&'a str, &'a [u8]),
    /// Members in turn.
    Any,
}

/// One try: sends the request to a member on its channel, and says how long the caller waits.
pub(crate) trait Attempt<T>: Fn(Channel, Duration) -> <Self as Attempt<T>>::Answer {
    type Answer: Future<Output = Result<T, Status>>;
}

impl<T, F, A> Attempt<T> for F
where
    F: Fn(Channel, Duration) -> A,
    A: Future<Output = Result<T, Status>>,
{
    type Answer = A;
}

/// What a call has seen so far.
#[derive(Default)]
struct Progress {
    tries: u32,
    last: Option<Failure>,
}

/// How a try ended without an answer.
enum Miss {
    /// The call is over.
    Final(Error),
    /// Ask another member.
    Another { failure: Failure, reached: bool },
    /// Ask again after a while.
    Pushback { wait: Duration, message: String, failure: Failure },
}

/// How a round ended without an answer.
enum Round {
    Final(Error),
    Failed,
    Pushback { wait: Duration, message: String },
}

impl Client {
    /// Calls `attempt` with channels of members, in their order, until one answers.
    pub(crate) async fn call<T>(
        &self,
        limit: Duration,
        route: Route<'_>,
        attempt: impl Attempt<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let mut progress = Progress::default();
        let rounds = async {
            let _permit = self.permit().await?;
            self.rounds(route, deadline, &mut progress, &attempt).await
        };
        match timeout_at(deadline, rounds).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::DeadlineExceeded { after: limit, last: progress.last }),
        }
    }

    /// Asks one member once.
    pub(crate) async fn ask<T>(
        &self,
        member: &Arc<Member>,
        limit: Duration,
        attempt: impl Attempt<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let failed = |last| Error::Unavailable { tries: 1, last };
        match self.attempt(member, deadline, &attempt).await {
            Ok(answer) => Ok(answer),
            Err(Miss::Final(error)) => Err(error),
            Err(Miss::Another { failure, .. } | Miss::Pushback { failure, .. }) => {
                Err(failed(failure))
            }
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        let inner = &self.inner;
        if let Ok(permit) = inner.permits.try_acquire() {
            return Ok(permit);
        }
        let limit = inner.settings.in_flight;
        if inner.queued.load(Ordering::Relaxed) >= limit {
            return Err(Error::Busy { limit });
        }
        inner.queued.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&inner.queued);
        Ok(inner.permits.acquire().await.expect("the semaphore is never closed"))
    }

    async fn rounds<T>(
        &self,
        route: Route<'_>,
        deadline: Instant,
        progress: &mut Progress,
        attempt: &impl Attempt<T>,
    ) -> Result<T, Error> {
        let Self { inner, .. } = self;
        let retry = inner.settings.retry;
        let mut failed = 0;
        loop {
            let returns = inner.directory.returns();
            let ended = match self.round(route, deadline, progress, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Round::Final(error)) => return Err(error),
                Err(ended) => ended,
            };
            failed += 1;
            let Some(wait) = retry.delay(failed, rand::random()) else {
                return Err(give_up(ended, progress));
            };
            match ended {
                // No use in waiting: the caller hears at once when to come back.
                Round::Pushback { wait, .. } if Instant::now() + wait >= deadline => {
                    return Err(give_up(ended, progress));
                }
                // The member spoke: nothing but time makes it ready.
                Round::Pushback { wait, .. } => tokio::time::sleep(wait).await,
                _ => inner.directory.wait_for_return(returns, wait).await,
            }
        }
    }

    async fn round<T>(
        &self,
        route: Route<'_>,
        deadline: Instant,
        progress: &mut Progress,
        attempt: &impl Attempt<T>,
    ) -> Result<T, Round> {
        let directory = &self.inner.directory;
        if let Err(failure) = directory.ensure_members().await {
            progress.last = Some(failure);
            return Err(Round::Failed);
        }
        let members = match route {
            Route::Key(group, key) => directory.route(group, Some(key)),
            Route::Any => directory.route("", None),
        };
        let mut unavailable = 0;
        for member in members {
            progress.tries += 1;
            match self.attempt(&member, deadline, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Miss::Final(error)) => return Err(Round::Final(error)),
                Err(Miss::Another { failure, reached }) => {
                    tracing::debug!(member = member.address(), %failure, "try failed");
                    progress.last = Some(failure);
                    unavailable += u32::from(reached);
                }
                Err(Miss::Pushback { wait, message, failure }) => {
                    progress.last = Some(failure);
                    return Err(Round::Pushback { wait, message });
                }
            }
            if unavailable >= UNAVAILABLE_PER_ROUND {
                break;
            }
        }
        Err(Round::Failed)
    }

    async fn attempt<T>(
        &self,
        member: &Arc<Member>,
        deadline: Instant,
        attempt: &impl Attempt<T>,
    ) -> Result<T, Miss> {
        let Self { inner, .. } = self;
        let started = Instant::now();
        let try_ends = deadline.min(started + inner.settings.try_timeout);
        let left = deadline.saturating_duration_since(started);
        inner.counts.tries.fetch_add(1, Ordering::Relaxed);
        let tried = timeout_at(try_ends, async {
            let channel = member.channel(inner.directory.network()).await?;
            Ok(attempt(channel, left).await)
        });
        let miss = match tried.await {
            Ok(Ok(Ok(answer))) => {
                member.set_down(false);
                return Ok(answer);
            }
            Ok(Ok(Err(status))) => miss(member, &status),
            Ok(Err(failure)) => Miss::Another { failure, reached: false },
            Err(_) => {
                let address = member.address().to_owned();
                let failure = Failure::Silent { address, after: try_ends - started };
                Miss::Another { failure, reached: false }
            }
        };
        inner.counts.failed_tries.fetch_add(1, Ordering::Relaxed);
        match miss {
            Miss::Another { reached: false, .. } => inner.directory.lost(member),
            _ => _ = member.set_down(false),
        }
        Err(miss)
    }
}

/// A caller's place in the queue for a permit.
struct Place<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn miss(member: &Member, status: &Status) -> Miss {
    let message = status.message().to_owned();
    let address = member.address().to_owned();
    match judge(status) {
        Verdict::Unreachable => {
            member.disconnect();
            let message = root(status);
            Miss::Another { failure: Failure::Connection { address, message }, reached: false }
        }
        Verdict::TryAnother => {
            Miss::Another { failure: Failure::Answered { address, message }, reached: true }
        }
        Verdict::Pushback(wait) => {
            let failure = Failure::Answered { address, message: message.clone() };
            Miss::Pushback { wait, message, failure }
        }
        Verdict::Final => Miss::Final(Error::from_answer(status.code(), message, None)),
    }
}

fn give_up(ended: Round, progress: &mut Progress) -> Error {
    match (ended, progress.last.take()) {
        (Round::Final(error), _) => error,
        (Round::Pushback { wait, message }, _) => {
            Error::Overloaded { message, retry_after: Some(wait) }
        }
        (Round::Failed, Some(last)) => Error::Unavailable { tries: progress.tries, last },
        (Round::Failed, None) => {
            Error::Refused { code: Code::Unavailable, message: "no member is known".into() }
        }
    }
}
