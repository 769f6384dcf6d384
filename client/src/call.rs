//! One call: rounds of tries under one deadline.
//!
//! Life of a call: it takes a permit, then tries the members in their order; the first answer ends
//! it. When a member fails, the next one is tried at once. When all failed, the call waits for the
//! back-off delay, or less when a member that was down answers again, and starts the next round.
//! The retry budget may end it earlier.
//!
//! One call without an answer is no evidence against its member: the key may be slow. The member is
//! probed, and while it answers, the call keeps waiting for it. Another member would only ask the
//! same owner.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::budget::RetryBudget;
use crate::directory::{Directory, PROBE_LIMIT};
use crate::error::{Error, Failure, MemberError, root_cause};
use crate::member::Member;
use crate::network::GrpcChannel;
use crate::settings::Settings;
use crate::status::{Verdict, judge, member_error};

/// Members that may answer "unavailable" in one round. Each of them asks the same owner.
const UNAVAILABLE_PER_ROUND: u32 = 2;

/// Which member a call tries first.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    /// The owner of a group's key.
    Owner { group: &'a str, key: &'a [u8] },
    /// Members in turn.
    Any,
}

impl<'a> Route<'a> {
    fn group(self) -> &'a str {
        match self {
            Self::Owner { group, .. } => group,
            Self::Any => "",
        }
    }

    fn key(self) -> Option<&'a [u8]> {
        match self {
            Self::Owner { key, .. } => Some(key),
            Self::Any => None,
        }
    }
}

/// Sends the request to one member over its channel; the duration is what the call has left.
pub(crate) trait Attempt<T>:
    Fn(GrpcChannel, Duration) -> <Self as Attempt<T>>::Response
{
    type Response: Future<Output = Result<T, Status>>;
}

impl<T, F, R> Attempt<T> for F
where
    F: Fn(GrpcChannel, Duration) -> R,
    R: Future<Output = Result<T, Status>>,
{
    type Response = R;
}

/// A successful call: the message, and the member that it came from.
pub(crate) struct Reply<T> {
    pub(crate) member: Arc<Member>,
    pub(crate) message: T,
}

/// Makes the calls of one client and its clones.
pub(crate) struct Dispatcher {
    pub(crate) directory: Arc<Directory>,
    pub(crate) settings: Settings,
    pub(crate) counts: Counts,
    budget: RetryBudget,
    permits: Semaphore,
    queued: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) tries: AtomicU64,
    pub(crate) failed_tries: AtomicU64,
    pub(crate) denied_retries: AtomicU64,
}

/// What a call has seen so far.
#[derive(Default)]
struct Progress {
    tries: u32,
    /// True if the next try counts against the retry budget.
    is_charged: bool,
    /// The most specific failure of the current round, or of an earlier one while this has none.
    last: Option<Failure>,
    last_is_of_earlier_round: bool,
}

/// Why a try gave no answer.
enum FailedTry {
    /// The call is over.
    Final(MemberError),
    /// Try another member; this one answered if `reached`.
    Another { failure: Failure, reached: bool },
    /// Try again after a delay.
    Pushback { delay: Duration, answer: MemberError },
}

/// Why a round gave no answer.
enum FailedRound {
    Final(Error),
    NoAnswer,
    Pushback {
        delay: Duration,
        answer: MemberError,
    },
    /// The retry budget is used up.
    Denied,
}

impl Dispatcher {
    pub(crate) fn new(directory: Arc<Directory>, settings: Settings) -> Self {
        Self {
            directory,
            counts: Counts::default(),
            budget: RetryBudget::new(),
            permits: Semaphore::new(settings.in_flight),
            queued: AtomicUsize::new(0),
            settings,
        }
    }

    /// Calls `attempt` with the channels of members, in the order of `route`, until one answers.
    pub(crate) async fn call<T>(
        &self,
        limit: Duration,
        route: Route<'_>,
        attempt: impl Attempt<T>,
    ) -> Result<Reply<T>, Error> {
        let deadline = Instant::now() + limit;
        let mut progress = Progress::default();
        self.budget.call();
        let rounds = async {
            let _permit = self.permit().await?;
            self.rounds(route, deadline, &mut progress, &attempt).await
        };
        match timeout_at(deadline, rounds).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::DeadlineExceeded { after: limit, last: progress.last }),
        }
    }

    /// Calls `attempt` once, with one member's channel.
    pub(crate) async fn call_member<T>(
        &self,
        member: &Arc<Member>,
        limit: Duration,
        attempt: impl Attempt<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let tried = timeout_at(deadline, self.attempt(member, deadline, &attempt)).await;
        let failed = match tried {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(failed)) => failed,
            Err(_) => return Err(Error::DeadlineExceeded { after: limit, last: None }),
        };
        Err(match failed {
            FailedTry::Final(answer) => Error::of_answer("", answer),
            FailedTry::Another { failure, .. } => Error::of_failure("", 1, failure),
            FailedTry::Pushback { answer, .. } => Error::Overloaded(answer),
        })
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let limit = self.settings.in_flight;
        if self.queued.load(Ordering::Relaxed) >= limit {
            return Err(Error::Busy { limit });
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        let _place = QueuePlace(&self.queued);
        Ok(self.permits.acquire().await.expect("the semaphore is never closed"))
    }

    async fn rounds<T>(
        &self,
        route: Route<'_>,
        deadline: Instant,
        progress: &mut Progress,
        attempt: &impl Attempt<T>,
    ) -> Result<Reply<T>, Error> {
        let mut failed = 0;
        loop {
            let returns = self.directory.returns();
            let end = match self.round(route, deadline, progress, attempt).await {
                Ok(reply) => return Ok(reply),
                Err(FailedRound::Final(error)) => return Err(error),
                Err(end) => end,
            };
            failed += 1;
            let Some(delay) = self.settings.retry.delay(failed, rand::random()) else {
                return Err(give_up(route, end, progress));
            };
            if matches!(end, FailedRound::Denied) || !self.may_try(progress) {
                return Err(give_up(route, end, progress));
            }
            match end {
                // Waiting is pointless: the caller learns at once when to retry.
                FailedRound::Pushback { delay, .. } if Instant::now() + delay >= deadline => {
                    return Err(give_up(route, end, progress));
                }
                // The member is alive: only time makes it ready.
                FailedRound::Pushback { delay, .. } => tokio::time::sleep(delay).await,
                _ => self.directory.wait_for_return(returns, delay).await,
            }
        }
    }

    async fn round<T>(
        &self,
        route: Route<'_>,
        deadline: Instant,
        progress: &mut Progress,
        attempt: &impl Attempt<T>,
    ) -> Result<Reply<T>, FailedRound> {
        progress.last_is_of_earlier_round = true;
        if let Err(failure) = self.directory.ensure_members().await {
            progress.record(failure);
            return Err(FailedRound::NoAnswer);
        }
        let members = self.directory.route(route.group(), route.key());
        let mut unavailable = 0;
        let mut only_not_grpc = !members.is_empty();
        for member in members {
            if !self.may_try(progress) {
                return Err(FailedRound::Denied);
            }
            progress.tries += 1;
            match self.attempt(&member, deadline, attempt).await {
                Ok(message) => return Ok(Reply { member, message }),
                Err(FailedTry::Final(answer)) => {
                    return Err(FailedRound::Final(Error::of_answer(route.group(), answer)));
                }
                Err(FailedTry::Another { failure, reached }) => {
                    tracing::debug!(member = member.address(), %failure, "try failed");
                    only_not_grpc &= matches!(failure, Failure::NotGrpc { .. });
                    progress.is_charged = self.is_charged(&failure);
                    progress.record(failure);
                    unavailable += u32::from(reached);
                }
                Err(FailedTry::Pushback { delay, answer }) => {
                    progress.is_charged = true;
                    progress.record(Failure::Answered(answer.clone()));
                    return Err(FailedRound::Pushback { delay, answer });
                }
            }
            if unavailable >= UNAVAILABLE_PER_ROUND {
                break;
            }
        }
        // A wrong port stays wrong however often it is tried.
        Err(if only_not_grpc {
            FailedRound::Final(progress.error(route))
        } else {
            FailedRound::NoAnswer
        })
    }

    /// Whether a retry after this failure counts. Not after the silence of a member, which may have
    /// worked, while another member answers: only that one member's calls move.
    fn is_charged(&self, failure: &Failure) -> bool {
        let is_silent = matches!(failure, Failure::Silent { .. });
        failure.is_costly() && !(is_silent && self.directory.has_answering_member())
    }

    /// False if the next try is a retry beyond the budget.
    fn may_try(&self, progress: &mut Progress) -> bool {
        let is_allowed = !std::mem::take(&mut progress.is_charged) || self.budget.retry();
        if !is_allowed {
            self.counts.denied_retries.fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }

    async fn attempt<T>(
        &self,
        member: &Arc<Member>,
        deadline: Instant,
        attempt: &impl Attempt<T>,
    ) -> Result<T, FailedTry> {
        let started = Instant::now();
        let left = deadline.saturating_duration_since(started);
        let _counted = member.begin_call();
        self.counts.tries.fetch_add(1, Ordering::Relaxed);
        let tried = pin!(async {
            let channel = member.channel(self.directory.network()).await?;
            Ok(attempt(channel, left).await)
        });
        let failed = match self.while_member_answers(member, deadline, tried).await {
            Some(Ok(Ok(message))) => {
                member.set_down(false);
                return Ok(message);
            }
            Some(Ok(Err(status))) => classify(member, &status),
            Some(Err(failure)) => FailedTry::Another { failure, reached: false },
            None => {
                let (address, after) = (member.address().to_owned(), started.elapsed());
                let failure = Failure::Silent { address, after };
                FailedTry::Another { failure, reached: false }
            }
        };
        self.counts.failed_tries.fetch_add(1, Ordering::Relaxed);
        match &failed {
            // The probe found out whether the member is down.
            FailedTry::Another { failure: Failure::Silent { .. }, .. } => {}
            FailedTry::Another { reached: false, .. } => self.directory.lost(member),
            _ => _ = member.set_down(false),
        }
        Err(failed)
    }

    /// The result of a try; `None` if the member does not answer a probe either. The caller ends
    /// the wait at the deadline.
    async fn while_member_answers<F: Future>(
        &self,
        member: &Arc<Member>,
        deadline: Instant,
        mut tried: Pin<&mut F>,
    ) -> Option<F::Output> {
        let patience = self.settings.try_timeout;
        // The verdict comes at the end of the time of one try.
        let unsuspected = patience.saturating_sub(PROBE_LIMIT).max(patience / 2);
        loop {
            let suspected = (Instant::now() + unsuspected).min(deadline);
            if let Ok(result) = timeout_at(suspected, tried.as_mut()).await {
                return Some(result);
            }
            // At the deadline, the verdict serves later calls.
            let mut check = self.directory.check(member);
            tokio::select! {
                biased;
                result = tried.as_mut() => return Some(result),
                verdict = check.wait_for(Option::is_some) => {
                    if !verdict.is_ok_and(|answers| *answers == Some(true)) {
                        return None;
                    }
                }
            }
        }
    }
}

impl Progress {
    fn record(&mut self, failure: Failure) {
        let earlier = self.last_is_of_earlier_round;
        if earlier || self.last.as_ref().is_none_or(|last| failure.rank() >= last.rank()) {
            self.last = Some(failure);
            self.last_is_of_earlier_round = false;
        }
    }

    fn error(&mut self, route: Route<'_>) -> Error {
        let last = self.last.take().unwrap_or(Failure::NoMember);
        Error::of_failure(route.group(), self.tries, last)
    }
}

/// A call's place in the queue for a permit.
struct QueuePlace<'a>(&'a AtomicUsize);

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn classify(member: &Member, status: &Status) -> FailedTry {
    let address = || member.address().to_owned();
    let answer = || member_error(member.address(), status);
    match judge(status) {
        Verdict::Unreachable => {
            member.disconnect();
            let failure = Failure::Connection { address: address(), message: root_cause(status) };
            FailedTry::Another { failure, reached: false }
        }
        Verdict::NotGrpc { problem } => {
            member.disconnect();
            let failure = Failure::NotGrpc { address: address(), problem };
            FailedTry::Another { failure, reached: false }
        }
        Verdict::TryAnother => {
            FailedTry::Another { failure: Failure::Answered(answer()), reached: true }
        }
        Verdict::Pushback(delay) => FailedTry::Pushback { delay, answer: answer() },
        Verdict::Final => FailedTry::Final(answer()),
    }
}

fn give_up(route: Route<'_>, end: FailedRound, progress: &mut Progress) -> Error {
    match end {
        FailedRound::Final(error) => error,
        FailedRound::Pushback { answer, .. } => Error::Overloaded(answer),
        FailedRound::NoAnswer | FailedRound::Denied => progress.error(route),
    }
}
