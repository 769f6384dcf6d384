//! Loads from the origin: the work of a load flight, and what its result becomes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use larder_engine::{Fence, NewEntry, Tick, Value};
use larder_proto::v1::Source as From;

use super::group::{Group, Outcome};
use super::{Answer, Cache, Error, fresh_copy, judge};
use crate::flight::{self, Flight};
use crate::freshness::{self, Kind, Life, Verdict};
use crate::metrics::Where;
use crate::origin::Loaded;

/// Life of what was loaded in an owner's place because nobody better could be reached: long enough
/// to spare the origin, short enough to be gone when the owner is back.
const SHORT_LIFE_MS: u64 = 1_000;

/// Where a load's result is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Among our own entries, for its whole life.
    Owned,
    /// Among the copies, for a short one.
    Short,
}

impl Cache {
    /// Joins the load of a key, or starts it.
    pub(super) fn load(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        keep: Keep,
    ) -> Result<Flight<Outcome>, Error> {
        let joined = group.loads.join(key, &self.0.tasks, "load", |key| {
            Box::pin(run(self.clone(), group.clone(), key, keep))
        });
        joined_or_full(joined, group, Where::Origin)
    }

    /// Starts a load that nobody waits for; without room for it the next read tries again.
    pub(super) fn reload(&self, group: &Arc<Group>, key: &[u8]) {
        _ = self.load(group, key, Keep::Owned);
    }

    /// A fresh answer that another flight brought between the caller's miss and now.
    fn just_loaded(&self, group: &Group, key: &[u8], keep: Keep) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        match keep {
            Keep::Short => fresh_copy(group.hot.as_ref()?.peek(key, tick(now_ms))?, now_ms),
            Keep::Owned => {
                let hit = group.main.peek(key, tick(now_ms))?;
                match judge(&hit, group, now_ms) {
                    Verdict::Fresh { remaining_ms } => {
                        Some(Answer::fresh(hit, From::Local, remaining_ms, now_ms))
                    }
                    Verdict::StaleAndReload | Verdict::StaleIfError | Verdict::Expired => None,
                }
            }
        }
    }

    /// Keeps what the origin said and makes the answer of it.
    fn keep(&self, group: &Group, key: &[u8], value: Value, keep: Keep, fence: Fence) -> Answer {
        let now_ms = self.0.clock.now_ms();
        let version = self.0.loads.fetch_add(1, Ordering::Relaxed) + 1;
        let kind = if value == Value::Absent { Kind::Absent } else { Kind::Present };
        let full = freshness::life(&group.plan.freshness, kind, self.0.random.ratio(), now_ms);
        let short_ms = full.fresh_until_ms.min(now_ms + SHORT_LIFE_MS);
        let (store, life) = match keep {
            Keep::Owned => (Some(&group.main), full),
            Keep::Short => {
                (group.hot.as_ref(), Life { fresh_until_ms: short_ms, keep_until_ms: short_ms })
            }
        };
        let answer = Answer {
            value: value.clone(),
            source: From::Loaded,
            stale: false,
            age_ms: 0,
            remaining_ms: life.fresh_until_ms - now_ms,
            version,
            not_owner: false,
        };
        if let Some(store) = store {
            let (fresh, until) = (tick(life.fresh_until_ms), tick(life.keep_until_ms));
            let entry = NewEntry::new(value, fresh, until, version);
            if let Err(refused) = store.insert(key, &entry, Some(fence), tick(now_ms)) {
                tracing::debug!(group = %group.name, kind = refused.kind(), "fill refused");
            }
        }
        answer
    }

    /// An entry that may be answered in place of a failed load.
    fn in_place_of_error(&self, group: &Group, key: &[u8]) -> Option<Answer> {
        let now_ms = self.0.clock.now_ms();
        let hit = group.main.peek(key, tick(now_ms))?;
        match judge(&hit, group, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(Answer::fresh(hit, From::Local, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError => Some(Answer::stale(hit, now_ms)),
            Verdict::Expired => None,
        }
    }
}

/// The leader's work. The caller of the flight took no fence: the load begins here, and an
/// invalidation before this line is one that the load will see.
async fn run(cache: Cache, group: Arc<Group>, key: Bytes, keep: Keep) -> Outcome {
    if let Some(answer) = cache.just_loaded(&group, &key, keep) {
        return Ok(answer);
    }
    let store = match (keep, &group.hot) {
        (Keep::Short, Some(hot)) => hot,
        (Keep::Owned, _) | (Keep::Short, None) => &group.main,
    };
    let fence = store.begin_load();
    group.metrics.load(Where::Origin);
    match ask_origin(&cache, &group, &key).await {
        Ok(value) => {
            group.wake();
            Ok(cache.keep(&group, &key, value, keep, fence))
        }
        Err(error) => {
            group.metrics.load_error(Where::Origin);
            group.rest(cache.0.clock.now_ms());
            tracing::debug!(group = %group.name, kind = error.kind(), %error, "load failed");
            cache.in_place_of_error(&group, &key).ok_or(error)
        }
    }
}

/// One call of the loader; a panic is an error like another.
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

/// Counts who joined, and words a full house.
pub(super) fn joined_or_full(
    joined: Result<Flight<Outcome>, flight::Error>,
    group: &Group,
    place: Where,
) -> Result<Flight<Outcome>, Error> {
    match joined {
        Ok(flight) => {
            if !flight.leader {
                group.metrics.deduped(place);
            }
            Ok(flight)
        }
        Err(flight::Error::Full { max }) => Err(Error::Overloaded { max }),
        Err(flight::Error::Deadline | flight::Error::Lost) => Err(Error::Stopping),
    }
}

fn tick(ms: u64) -> Tick {
    Tick::from_millis(ms)
}
