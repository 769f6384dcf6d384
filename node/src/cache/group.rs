//! One group: its entries, its flights, its contract and its loader.
//!
//! A group is replaced as a whole when its contract changes. Entries, counters and, unless the
//! origin changed, flights are kept. A group never reads the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_engine::{GroupOptions, Hit, PolicyKind, Tick};
use larder_proto::contract::{Freshness, Origin, OriginLimits};
use larder_proto::v1::Source;

use super::answer::Answer;
use super::error::Error;
use crate::flight::Flights;
use crate::freshness::{self, Kind, Times, Verdict};
use crate::metrics::GroupMetrics;
use crate::origin::Loader;

/// How long a failing origin is not asked again for entries that may be answered stale: one probe
/// in this time, not one for each read.
const SUSPENSION_MS: u64 = 1_000;

/// The desired state of a group, from a `CacheGroup` or from the embedding program.
#[derive(Clone)]
pub struct GroupPlan {
    /// Eviction policy.
    pub policy: PolicyKind,
    /// TTLs and stale windows.
    pub freshness: Freshness,
    /// Concurrency and time limits of loads.
    pub limits: OriginLimits,
    /// Where values come from.
    pub origin: OriginSource,
}

/// Where a group's values come from.
#[derive(Clone)]
pub enum OriginSource {
    /// An origin described by a contract.
    Described(Origin),
    /// A loader of the embedding program.
    Given(Arc<dyn Loader>),
}

pub(super) type LoadOutcome = Result<Answer, Error>;

/// A group in use.
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) plan: GroupPlan,
    /// Entries of keys that this member owns.
    pub(super) main: larder_engine::Group,
    /// Short-lived copies of other members' entries; `None` if the member keeps none.
    pub(super) hot: Option<larder_engine::Group>,
    /// The loader behind its bulkhead, or why it could not be built.
    pub(super) loader: Result<Arc<dyn Loader>, Arc<str>>,
    /// Loads from the origin. A load never waits for a forward, so members cannot wait for each
    /// other in a circle.
    pub(super) loads: Flights<LoadOutcome>,
    /// Requests to owners. May wait for a load.
    pub(super) forwards: Flights<LoadOutcome>,
    pub(super) metrics: Arc<GroupMetrics>,
    /// End of the suspension after a failed load, ms; 0 if there is none.
    suspended_until_ms: AtomicU64,
}

/// What a group keeps when its contract changes.
pub(super) struct GroupState {
    pub(super) main: larder_engine::Group,
    pub(super) hot: Option<larder_engine::Group>,
    pub(super) loads: Flights<LoadOutcome>,
    pub(super) forwards: Flights<LoadOutcome>,
    pub(super) metrics: Arc<GroupMetrics>,
}

impl Group {
    pub(super) fn new(
        name: Arc<str>,
        plan: GroupPlan,
        state: GroupState,
        loader: Result<Arc<dyn Loader>, Arc<str>>,
    ) -> Self {
        let GroupState { main, hot, loads, forwards, metrics } = state;
        let suspended_until_ms = AtomicU64::new(0);
        Self { name, plan, main, hot, loader, loads, forwards, metrics, suspended_until_ms }
    }

    pub(super) fn state(&self) -> GroupState {
        GroupState {
            main: self.main.clone(),
            hot: self.hot.clone(),
            loads: self.loads.clone(),
            forwards: self.forwards.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// What an entry of the main store is worth under the contract in force.
    pub(super) fn judge(&self, hit: &Hit, now_ms: u64) -> Verdict {
        let times = Times {
            stored_at_ms: hit.stored_at.as_millis(),
            fresh_until_ms: hit.fresh_until.as_millis(),
        };
        let kind = if hit.is_absent() { Kind::Absent } else { Kind::Present };
        freshness::judge(times, kind, &self.plan.freshness, now_ms)
    }

    /// A fresh copy of another member's entry. Counts as an access for the eviction policy.
    pub(super) fn hot_copy(&self, key: &[u8], now_ms: u64) -> Option<Answer> {
        fresh_copy(self.hot.as_ref()?.get(key, Tick::from_millis(now_ms))?, now_ms)
    }

    /// [`Group::hot_copy`] without counting as an access.
    pub(super) fn peek_hot_copy(&self, key: &[u8], now_ms: u64) -> Option<Answer> {
        fresh_copy(self.hot.as_ref()?.peek(key, Tick::from_millis(now_ms))?, now_ms)
    }

    /// True for a while after a failed load.
    pub(super) fn is_origin_suspended(&self, now_ms: u64) -> bool {
        now_ms < self.suspended_until_ms.load(Ordering::Relaxed)
    }

    pub(super) fn suspend_origin(&self, now_ms: u64) {
        self.suspended_until_ms.store(now_ms + SUSPENSION_MS, Ordering::Relaxed);
    }

    pub(super) fn resume_origin(&self) {
        if self.suspended_until_ms.load(Ordering::Relaxed) != 0 {
            self.suspended_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Drops keys (none: all) here and detaches their flights, so that later readers start new
    /// ones. The stores are fenced first: a reader that still joins the old flight did so before
    /// the invalidation returned.
    pub(super) fn drop_keys<K: AsRef<[u8]>>(&self, keys: &[K]) {
        let stores = || std::iter::once(&self.main).chain(&self.hot);
        if keys.is_empty() {
            stores().for_each(larder_engine::Group::clear);
            self.loads.forget_all();
            self.forwards.forget_all();
        }
        for key in keys {
            stores().for_each(|store| _ = store.invalidate(key.as_ref()));
            self.loads.forget(key.as_ref());
            self.forwards.forget(key.as_ref());
        }
    }
}

/// A copy is as fresh as its owner said, until the copy's own TTL ends.
fn fresh_copy(hit: Hit, now_ms: u64) -> Option<Answer> {
    let end_ms = hit.fresh_until.as_millis();
    (now_ms < end_ms).then(|| Answer::fresh(hit, Source::Hot, end_ms - now_ms, now_ms))
}

impl GroupPlan {
    /// The part of the plan that the engine implements.
    pub(super) fn engine_options(&self) -> GroupOptions {
        GroupOptions { policy: self.policy, ..GroupOptions::default() }
    }

    /// True if both plans load from the same place.
    pub(super) fn has_same_origin(&self, other: &Self) -> bool {
        match (&self.origin, &other.origin) {
            (OriginSource::Described(a), OriginSource::Described(b)) => a == b,
            (OriginSource::Given(a), OriginSource::Given(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// True if applying `other` would change nothing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.freshness == other.freshness
            && self.limits == other.limits
            && self.has_same_origin(other)
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
