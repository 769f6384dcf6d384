//! Loads from the origin: the work of a load flight, and how its result is stored.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use larder_engine::{Fence, NewEntry, Tags, Tick, Value};
use larder_proto::v1::{Source, StaleReason};

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::{Group, LoadOutcome};
use super::shared::Cache;
use super::wait::{Caller, flatten};
use crate::flight::{self, Flight, FlightWork};
use crate::freshness::{self, Kind, Life, Verdict};
use crate::gather::{GatheredKey, Gathering};
use crate::metrics::LoadTarget;
use crate::origin::{self, Blame, Loaded, Requester, check_tags};

/// TTL of a value loaded here because owner and stand-in were unreachable: long enough to spare
/// the origin, short enough to be gone when the owner is back.
const STAND_IN_TTL_MS: u64 = 1_000;

/// How the result of a load is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreAs {
    /// In the main store, for the TTL of its group.
    Owned,
    /// As [`StoreAs::Owned`], in place of an entry that is still fresh.
    EarlyRefresh,
    /// Among the copies, for [`STAND_IN_TTL_MS`].
    StandIn,
}

impl Cache {
    /// Joins the load flight of a key, or starts it, unless it would fail at once.
    pub(super) fn load(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        store_as: StoreAs,
        requester: Requester,
        gathering: Option<&Gathering>,
    ) -> Result<Flight<LoadOutcome>, Error> {
        let refusal = group.refusal(key, self.0.clock.now_ms());
        if let Some(error) = refusal.or_else(|| group.overload(key, requester)) {
            return Err(error);
        }
        let joined = group.loads.join(key, &self.0.tasks, "load", |work| {
            let gathered = gathering.map(Gathering::key);
            Box::pin(run(self.clone(), group.clone(), work, store_as, requester, gathered))
        });
        joined_or_overloaded(joined, group, LoadTarget::Origin)
    }

    /// Starts a load that no request waits for. If it is refused, the next read tries again.
    pub(super) fn reload(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        store_as: StoreAs,
        caller: Caller,
        gathering: Option<&Gathering>,
    ) {
        _ = self.load(group, key, store_as, caller.requester(), gathering);
    }

    /// A fresh answer that another flight stored after the caller's miss.
    fn just_loaded(&self, group: &Group, key: &[u8], store_as: StoreAs) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        match store_as {
            StoreAs::Owned => {}
            StoreAs::EarlyRefresh => return None,
            StoreAs::StandIn => return group.peek_hot_copy(key, now_ms),
        }
        let hit = group.main.peek(key, Tick::from_millis(now_ms))?;
        match group.judge(&hit, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(group.fresh(hit, Source::Local, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError | Verdict::Expired => None,
        }
    }

    /// Stores what the origin returned, and makes it the answer.
    fn store(
        &self,
        group: &Group,
        key: &[u8],
        (value, tags): (Value, Tags),
        store_as: StoreAs,
        fence: Option<Fence>,
    ) -> Answer {
        let now_ms = self.0.clock.now_ms();
        let version = self.0.versions.next(now_ms);
        let kind = if value == Value::Absent { Kind::Absent } else { Kind::Present };
        let full = freshness::life(&group.plan.freshness, kind, self.0.random.ratio(), now_ms);
        let (store, life) = match store_as {
            StoreAs::Owned | StoreAs::EarlyRefresh => (Some(&group.main), full),
            StoreAs::StandIn => {
                let end_ms = full.fresh_until_ms.min(now_ms + STAND_IN_TTL_MS);
                (group.hot.as_ref(), Life { fresh_until_ms: end_ms, keep_until_ms: end_ms })
            }
        };
        let answer = Answer {
            value: value.clone(),
            source: Source::Loaded,
            stale_reason: StaleReason::Unspecified,
            age_ms: 0,
            remaining_ms: life.fresh_until_ms - now_ms,
            stale_remaining_ms: 0,
            version,
            not_owner: false,
            origin_id: group.origin_id,
            tags: tags.clone(),
            spread_ms: 0,
        };
        if let (Some(store), Some(fence)) = (store, fence) {
            let fresh_until = Tick::from_millis(life.fresh_until_ms);
            let keep_until = Tick::from_millis(life.keep_until_ms);
            let entry = NewEntry::new(value, fresh_until, keep_until, version).tagged(tags);
            let now = Tick::from_millis(now_ms);
            if let Err(refused) = store.insert(key, &entry, Some(fence), now) {
                tracing::debug!(group = %group.name, kind = refused.kind(), "value not stored");
            }
        }
        answer
    }

    /// An entry that the group's freshness allows in place of an error.
    pub(super) fn in_place_of(&self, error: &Error, group: &Group, key: &[u8]) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        let hit = group.main.peek(key, Tick::from_millis(now_ms))?;
        match group.judge(&hit, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(group.fresh(hit, Source::Local, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError => {
                Some(group.stale(hit, error.stale_reason(), now_ms))
            }
            Verdict::Expired => None,
        }
    }
}

/// The leader's work. The fence is taken here and not by the caller of the flight: the load starts
/// here, so it sees everything that an earlier invalidation announced.
async fn run(
    cache: Cache,
    group: Arc<Group>,
    work: FlightWork,
    store_as: StoreAs,
    requester: Requester,
    gathered: Option<GatheredKey>,
) -> LoadOutcome {
    let FlightWork { key, number, .. } = work;
    if let Some(answer) = cache.just_loaded(&group, &key, store_as) {
        return Ok(answer);
    }
    if store_as == StoreAs::Owned
        && let Some(answer) = cache.take_over_key(&group, &key).await
    {
        return Ok(answer);
    }
    if group.loads.is_forgotten(&key, number) {
        // 1. This flight asks the previous owner. 2. An invalidation detaches it. 3. A later read
        // starts the key's next flight. A load here would be a second one at the same time.
        drop(gathered);
        let next = cache.load(&group, &key, store_as, requester, None)?;
        return flatten(next.outcome_before(std::future::pending()).await, Awaited::Origin);
    }
    let store = match (store_as, &group.hot) {
        (StoreAs::StandIn, Some(hot)) => hot,
        (StoreAs::Owned | StoreAs::EarlyRefresh, _) | (StoreAs::StandIn, None) => &group.main,
    };
    let fence = group.begin_load(store);
    group.metrics.load(LoadTarget::Origin);
    match ask_origin(&cache, &group, &key, requester, gathered).await {
        Ok(loaded) => Ok(cache.store(&group, &key, loaded, store_as, fence)),
        Err(error) => {
            group.metrics.load_error(LoadTarget::Origin);
            group.count_refusal(&error);
            if is_remembered(&error) {
                group.failed_keys.record(&key, &error, cache.0.clock.now_ms());
            }
            tracing::debug!(group = %group.name, kind = error.kind(), %error, "load failed");
            cache.in_place_of(&error, &group, &key).ok_or(error)
        }
    }
}

/// True if another load of the key would most likely fail the same way. Not so after a refusal,
/// which only says when to try again.
fn is_remembered(error: &Error) -> bool {
    match error {
        Error::Origin { source, .. } => source.blame() != Blame::Nobody,
        Error::ValueTooLarge { .. } => true,
        _ => false,
    }
}

/// Calls the loader once. A panic becomes an error.
async fn ask_origin(
    cache: &Cache,
    group: &Group,
    key: &[u8],
    requester: Requester,
    gathered: Option<GatheredKey>,
) -> Result<(Value, Tags), Error> {
    let name = || group.name.clone();
    let origin = group
        .origin
        .as_ref()
        .map_err(|broken| Error::BrokenGroup { group: name(), problem: broken.problem.clone() })?;
    let _timing = group.metrics.origin_call();
    let call = AssertUnwindSafe(origin.load_gathered(key, requester, gathered)).catch_unwind();
    let loaded = call.await.map_err(|_| Error::Panicked { group: name() })?;
    let failed = |source| Error::Origin { group: name(), source };
    let (value, tags) = match loaded.map_err(failed)? {
        Loaded::Value(value) => (value, Vec::new()),
        Loaded::Tagged { value, tags } => (value, tags),
        Loaded::Absent => return Ok((Value::Absent, Tags::default())),
    };
    let (bytes, max) = (value.len(), cache.0.limits.max_value_bytes);
    if bytes > max {
        return Err(Error::ValueTooLarge { bytes, max });
    }
    check_tags(&tags).map_err(|problem| failed(Arc::new(origin::Error::Tags(problem))))?;
    Ok((Value::Present(value), tags.into_iter().collect()))
}

/// Counts a joined flight, and maps a full flight table to [`Error::Overloaded`].
pub(super) fn joined_or_overloaded(
    joined: Result<Flight<LoadOutcome>, flight::Error>,
    group: &Group,
    target: LoadTarget,
) -> Result<Flight<LoadOutcome>, Error> {
    match joined {
        Ok(flight) => {
            if !flight.leader {
                group.metrics.deduped(target);
            }
            Ok(flight)
        }
        Err(flight::Error::Full { max }) => Err(Error::Overloaded { max }),
        Err(flight::Error::Deadline | flight::Error::Lost) => Err(Error::Stopping),
    }
}
