//! Asks a key's owner: the work of a forward flight. One hop, never two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_engine::{Fence, NewEntry, Tick};
use larder_proto::v1::{FetchResult, Outcome};
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::{Group, LoadOutcome};
use super::load::{StoreAs, joined_or_overloaded};
use super::shared::Cache;
use super::wait::{Caller, Lookup, flatten};
use crate::flight::{Flight, FlightWork, LatestDeadline};
use crate::gather::{GatheredKey, Gathering};
use crate::metrics::LoadTarget;
use crate::origin::Requester;
use crate::peers::{HOP_ALLOWANCE, Owner, Peer, Refusal, Unanswered, before_hop};

/// Times that one owner is asked while its answers are too late to be used.
const TRIES_PER_OWNER: usize = 2;
/// Owners asked before the key is loaded here: the first one and, if that does not answer, its
/// stand-in.
const OWNERS_ASKED: usize = 2;

impl Cache {
    /// Joins the forward flight of a key, or starts it.
    pub(super) fn forward(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        caller: Caller,
        gathering: Option<&Gathering>,
    ) -> Result<Flight<LoadOutcome>, Error> {
        assert_eq!(caller, Caller::Application, "a forwarded request is never forwarded again");
        let joined = group.forwards.join(key, self.0.peers.tasks(), "forward", |work| {
            Box::pin(run(self.clone(), group.clone(), work, gathering.map(Gathering::key)))
        });
        joined_or_overloaded(joined, group, LoadTarget::Peer)
    }

    /// Stores a copy of a peer's answer for a short time, unless the answer is stale or comes from
    /// another origin: a peer may not have seen yet that the origin changed. The answer may be
    /// `waited_ms` old: a response can be held up on its way.
    pub(super) fn store_copy(
        &self,
        group: &Group,
        key: &[u8],
        answer: &Answer,
        waited_ms: u64,
        fence: Option<Fence>,
    ) {
        let ttl_ms = answer.remaining_ms.saturating_sub(waited_ms).min(self.0.hot_ttl_ms);
        let (Some(hot), Some(fence)) = (&group.hot, fence) else { return };
        if answer.is_stale() || ttl_ms == 0 || answer.origin_id != group.origin_id {
            return;
        }
        let now_ms = self.0.clock.now_ms();
        let until = Tick::from_millis(now_ms + ttl_ms);
        let loaded_at = Tick::from_millis(now_ms.saturating_sub(answer.age_ms));
        let entry = NewEntry::new(answer.value.clone(), until, until, answer.version)
            .tagged(answer.tags.clone())
            .stored_at(loaded_at);
        if let Err(refused) = hot.insert(key, &entry, Some(fence), Tick::from_millis(now_ms)) {
            tracing::debug!(group = %group.name, kind = refused.kind(), "copy not stored");
        }
    }
}

async fn run(
    cache: Cache,
    group: Arc<Group>,
    work: FlightWork,
    mut gathered: Option<GatheredKey>,
) -> LoadOutcome {
    let FlightWork { key, latest_deadline, .. } = work;
    if let Some(answer) = group.peek_hot_copy(&key, cache.0.clock.now_ms()) {
        return Ok(answer);
    }
    let waiters = Waiters { latest_deadline, default: cache.default_deadline() };
    let mut silent_owner = None;
    for _ in 0..OWNERS_ASKED {
        // The ring is asked each time: an owner that did not answer is bypassed from then on.
        let peer = match cache.0.peers.view().owner(&group.name, &key) {
            Owner::There(peer) => peer.clone(),
            Owner::Here => {
                let outcome = stand_in(&cache, &group, &key, &waiters).await;
                return in_place_of(silent_owner, outcome);
            }
        };
        if let Some(outcome) = ask(&cache, &group, &key, &peer, &waiters, gathered.take()).await {
            return outcome;
        }
        silent_owner = Some(peer.name().clone());
    }
    cache.0.metrics.fallbacks.inc();
    in_place_of(silent_owner, load_unowned(&cache, &group, &key, &waiters).await)
}

/// Adds to an error that the owner did not answer before.
fn in_place_of(silent_owner: Option<Arc<str>>, outcome: LoadOutcome) -> LoadOutcome {
    match (silent_owner, outcome) {
        (Some(owner), Err(source)) => Err(Error::OwnerSilent { owner, source: Box::new(source) }),
        (_, outcome) => outcome,
    }
}

/// Asks one owner. `None` means that this member has to answer in its place.
async fn ask(
    cache: &Cache,
    group: &Group,
    key: &Bytes,
    peer: &Peer,
    waiters: &Waiters,
    mut gathered: Option<GatheredKey>,
) -> Option<LoadOutcome> {
    for _ in 0..TRIES_PER_OWNER {
        match ask_once(cache, group, key, peer, waiters, gathered.take()).await {
            Asked::Outcome(outcome) => return Some(outcome),
            Asked::Bypassed => return None,
            Asked::TooLate => {
                tracing::debug!(peer = %peer.name(), "the answer was held up past its life");
            }
        }
    }
    None
}

/// What an owner gave for one call.
enum Asked {
    Outcome(LoadOutcome),
    /// Another member has to answer.
    Bypassed,
    /// A value whose life or stale window may have ended before it arrived. A read that joined in
    /// the meantime may have begun after that.
    TooLate,
}

async fn ask_once(
    cache: &Cache,
    group: &Group,
    key: &Bytes,
    peer: &Peer,
    waiters: &Waiters,
    gathered: Option<GatheredKey>,
) -> Asked {
    let fence = group.hot.as_ref().and_then(|hot| group.begin_load(hot));
    group.metrics.load(LoadTarget::Peer);
    let asked_ms = cache.0.clock.now_ms();
    let result = match fetch(group, key, peer, waiters, gathered).await {
        Ok(result) => result,
        Err(Unanswered::Deadline) => {
            group.metrics.load_error(LoadTarget::Peer);
            return Asked::Outcome(Err(Error::Deadline { awaited: Awaited::Owner }));
        }
        Err(unanswered) => {
            group.metrics.load_error(LoadTarget::Peer);
            tracing::debug!(peer = %peer.name(), %unanswered, "owner bypassed");
            return Asked::Bypassed;
        }
    };
    if result.not_owner {
        cache.0.metrics.view_mismatch.inc();
    }
    if result.outcome() == Outcome::Error {
        return owner_error(group, result).map_or(Asked::Bypassed, Asked::Outcome);
    }
    cache.0.versions.saw(result.version);
    let Some(answer) = Answer::from_peer(&result) else { return Asked::Bypassed };
    let waited_ms = cache.0.clock.now_ms().saturating_sub(asked_ms);
    let on_its_way_ms = waited_ms.saturating_sub(result.handled_ms);
    if answer.is_over_after(on_its_way_ms) {
        return Asked::TooLate;
    }
    cache.store_copy(group, key, &answer, waited_ms, fence);
    // The caller does not care whether the owner's ring agrees.
    Asked::Outcome(Ok(Answer { not_owner: false, ..answer }))
}

/// Asks until the owner answers or no waiter has time left. A read that joins after the owner was
/// asked may wait longer than those before it, so an owner whose time is over is asked again, which
/// joins its load.
async fn fetch(
    group: &Group,
    key: &Bytes,
    peer: &Peer,
    waiters: &Waiters,
    mut gathered: Option<GatheredKey>,
) -> Result<FetchResult, Unanswered> {
    loop {
        let answer = peer.fetch(&group.name, key, waiters.answer_by(), gathered.take()).await;
        let timed_out = match &answer {
            Ok(result) => {
                result.outcome() == Outcome::Error && Refusal::of(result) == Refusal::TimedOut
            }
            Err(unanswered) => *unanswered == Unanswered::Deadline,
        };
        if !timed_out || Instant::now() + HOP_ALLOWANCE >= waiters.latest_deadline() {
            return answer;
        }
    }
}

/// The outcome of an owner's error. An owner that does not know the group yet must not fail a
/// read, so that error gives `None`.
fn owner_error(group: &Group, result: FetchResult) -> Option<LoadOutcome> {
    group.metrics.load_error(LoadTarget::Peer);
    let retry_after_ms = u64::from(result.retry_after_ms);
    match Refusal::of(&result) {
        Refusal::NotReady => None,
        Refusal::TimedOut => Some(Err(Error::Deadline { awaited: Awaited::Origin })),
        Refusal::Failed(code) => Some(Err(Error::AtOwner {
            code,
            message: result.message.into(),
            reason: result.reason.into(),
            retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)),
        })),
    }
}

/// Answers as the owner's stand-in, which the ring names: from the main store, or by a load.
async fn stand_in(cache: &Cache, group: &Arc<Group>, key: &[u8], waiters: &Waiters) -> LoadOutcome {
    let now_ms = cache.0.clock.now_ms();
    match cache.read_owned(group, key, Caller::StandIn, now_ms, false, None)? {
        Lookup::Done(answer) => answer,
        Lookup::Wait(wait) => wait.answer_before(waiters.give_up()).await,
    }
}

/// Loads a key although the ring names another member, because none of the candidates answered.
async fn load_unowned(
    cache: &Cache,
    group: &Arc<Group>,
    key: &[u8],
    waiters: &Waiters,
) -> LoadOutcome {
    let flight = cache.load(group, key, StoreAs::StandIn, Requester::Application, None)?;
    flatten(flight.outcome_before(waiters.give_up()).await, Awaited::Origin)
}

/// The reads that wait for a forward flight.
struct Waiters {
    latest_deadline: LatestDeadline,
    /// Their deadline while none of them waits yet.
    default: Instant,
}

impl Waiters {
    fn latest_deadline(&self) -> Instant {
        self.latest_deadline.get().unwrap_or(self.default)
    }

    /// When an answer must be there to reach the most patient waiter.
    fn answer_by(&self) -> Instant {
        before_hop(self.latest_deadline(), Instant::now())
    }

    /// Ready when no waiter has time left, also for those that join in the meantime.
    async fn give_up(&self) {
        loop {
            let end = self.answer_by();
            sleep_until(end).await;
            if Instant::now() + HOP_ALLOWANCE >= self.latest_deadline() {
                return;
            }
        }
    }
}
