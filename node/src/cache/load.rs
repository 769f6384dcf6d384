//! Loads from the origin: the work of a load flight, and how its result is stored.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use larder_engine::{Fence, NewEntry, Tick, Value};
use larder_proto::v1::Source;

use super::answer::Answer;
use super::error::Error;
use super::group::{Group, LoadOutcome};
use super::shared::Cache;
use crate::flight::{self, Flight};
use crate::freshness::{self, Kind, Life, Verdict};
use crate::metrics::LoadTarget;
use crate::origin::{self, Loaded};

/// TTL of a value loaded here because owner and stand-in were unreachable: long enough to spare
/// the origin, short enough to be gone when the owner is back.
const STAND_IN_TTL_MS: u64 = 1_000;

/// How the result of a load is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreAs {
    /// In the main store, for the TTL of its group.
    Owned,
    /// Among the copies, for [`STAND_IN_TTL_MS`].
    StandIn,
}

impl Cache {
    /// Joins the load flight of a key, or starts it.
    pub(super) fn load(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        store_as: StoreAs,
    ) -> Result<Flight<LoadOutcome>, Error> {
        let joined = group.loads.join(key, &self.0.tasks, "load", |key| {
            Box::pin(run(self.clone(), group.clone(), key, store_as))
        });
        joined_or_overloaded(joined, group, LoadTarget::Origin)
    }

    /// Starts a load that no request waits for. If the flight table is full, the next read tries
    /// again.
    pub(super) fn reload(&self, group: &Arc<Group>, key: &[u8]) {
        _ = self.load(group, key, StoreAs::Owned);
    }

    /// A fresh answer that another flight stored after the caller's miss.
    fn just_loaded(&self, group: &Group, key: &[u8], store_as: StoreAs) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        if store_as == StoreAs::StandIn {
            return group.peek_hot_copy(key, now_ms);
        }
        let hit = group.main.peek(key, Tick::from_millis(now_ms))?;
        match group.judge(&hit, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(Answer::fresh(hit, Source::Local, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError | Verdict::Expired => None,
        }
    }

    /// Stores what the origin returned, and makes it the answer.
    fn store(
        &self,
        group: &Group,
        key: &[u8],
        value: Value,
        store_as: StoreAs,
        fence: Fence,
    ) -> Answer {
        let now_ms = self.0.clock.now_ms();
        let version = self.0.last_load.fetch_add(1, Ordering::Relaxed) + 1;
        let kind = if value == Value::Absent { Kind::Absent } else { Kind::Present };
        let full = freshness::life(&group.plan.freshness, kind, self.0.random.ratio(), now_ms);
        let (store, life) = match store_as {
            StoreAs::Owned => (Some(&group.main), full),
            StoreAs::StandIn => {
                let end_ms = full.fresh_until_ms.min(now_ms + STAND_IN_TTL_MS);
                (group.hot.as_ref(), Life { fresh_until_ms: end_ms, keep_until_ms: end_ms })
            }
        };
        let answer = Answer {
            value: value.clone(),
            source: Source::Loaded,
            stale: false,
            age_ms: 0,
            remaining_ms: life.fresh_until_ms - now_ms,
            version,
            not_owner: false,
        };
        if let Some(store) = store {
            let fresh_until = Tick::from_millis(life.fresh_until_ms);
            let keep_until = Tick::from_millis(life.keep_until_ms);
            let entry = NewEntry::new(value, fresh_until, keep_until, version);
            let now = Tick::from_millis(now_ms);
            if let Err(refused) = store.insert(key, &entry, Some(fence), now) {
                tracing::debug!(group = %group.name, kind = refused.kind(), "value not stored");
            }
        }
        answer
    }

    /// An entry that the group's freshness allows in place of a failed load.
    fn in_place_of_error(&self, group: &Group, key: &[u8]) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        let hit = group.main.peek(key, Tick::from_millis(now_ms))?;
        match group.judge(&hit, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(Answer::fresh(hit, Source::Local, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError => Some(Answer::stale(hit, now_ms)),
            Verdict::Expired => None,
        }
    }
}

/// The leader's work. The fence is taken here and not by the caller of the flight: the load starts
/// here, so it sees everything that an earlier invalidation announced.
async fn run(cache: Cache, group: Arc<Group>, key: Bytes, store_as: StoreAs) -> LoadOutcome {
    if let Some(answer) = cache.just_loaded(&group, &key, store_as) {
        return Ok(answer);
    }
    let store = match (store_as, &group.hot) {
        (StoreAs::StandIn, Some(hot)) => hot,
        (StoreAs::Owned, _) | (StoreAs::StandIn, None) => &group.main,
    };
    let fence = store.begin_load();
    group.metrics.load(LoadTarget::Origin);
    match ask_origin(&cache, &group, &key).await {
        Ok(value) => {
            group.resume_origin();
            Ok(cache.store(&group, &key, value, store_as, fence))
        }
        Err(error) => {
            group.metrics.load_error(LoadTarget::Origin);
            if !is_about_key(&error) {
                group.suspend_origin(cache.0.clock.now_ms());
            }
            tracing::debug!(group = %group.name, kind = error.kind(), %error, "load failed");
            cache.in_place_of_error(&group, &key).ok_or(error)
        }
    }
}

/// True if the error says nothing about the state of the origin.
fn is_about_key(error: &Error) -> bool {
    matches!(error, Error::Origin { source, .. } if matches!(**source, origin::Error::Key))
}

/// Calls the loader once. A panic becomes an error.
async fn ask_origin(cache: &Cache, group: &Group, key: &[u8]) -> Result<Value, Error> {
    let name = || group.name.clone();
    let loader = group
        .loader
        .as_ref()
        .map_err(|problem| Error::BrokenGroup { group: name(), problem: problem.clone() })?;
    let _timing = group.metrics.origin_call();
    let call = AssertUnwindSafe(async { loader.load(key).await }).catch_unwind();
    let loaded = call.await.map_err(|_| Error::Panicked { group: name() })?;
    match loaded {
        Ok(Loaded::Value(value)) => {
            let (bytes, max) = (value.len(), cache.0.limits.max_value_bytes);
            if bytes > max {
                return Err(Error::ValueTooLarge { bytes, max });
            }
            Ok(Value::Present(value))
        }
        Ok(Loaded::Absent) => Ok(Value::Absent),
        Err(source) => Err(Error::Origin { group: name(), source: Arc::new(source) }),
    }
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
