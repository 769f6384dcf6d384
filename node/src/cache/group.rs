//! One group as the read path sees it: its entries, its flights, its contract, its loader.
//!
//! A group is replaced as a whole when its contract changes; entries, counters and, unless the
//! origin changed, flights are carried over. It never reads the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_engine::{GroupOptions, PolicyKind};
use larder_proto::contract::{Freshness, Origin, OriginLimits};

use super::{Answer, Error};
use crate::flight::Flights;
use crate::metrics::GroupMetrics;
use crate::origin::Loader;

/// While an origin fails, entries that may be answered in its place are, and it is asked again
/// after so long: one probe an interval, not one a read.
const REST_MS: u64 = 1_000;

/// What a group is to be: from a `CacheGroup`, or given by the embedding program.
#[derive(Clone)]
pub struct Plan {
    /// Eviction policy.
    pub policy: PolicyKind,
    /// How long answers live.
    pub freshness: Freshness,
    /// How hard the origin may be used.
    pub limits: OriginLimits,
    /// Where values come from.
    pub origin: Source,
}

/// Where a group's values come from.
#[derive(Clone)]
pub enum Source {
    /// An origin described in the registry.
    Described(Origin),
    /// A loader of the embedding program's.
    Given(Arc<dyn Loader>),
}

pub(crate) type Outcome = Result<Answer, Error>;

/// A group in use.
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) plan: Plan,
    /// Entries of keys that this member owns.
    pub(crate) main: larder_engine::Group,
    /// Copies of other members' entries, short-lived; nothing if the member keeps none.
    pub(crate) hot: Option<larder_engine::Group>,
    /// The loader behind its bulkhead, or why there is none.
    pub(crate) loader: Result<Arc<dyn Loader>, Arc<str>>,
    /// Loads from the origin. Never waits on `forwards`: that is what makes a circle of members
    /// that wait for each other impossible.
    pub(crate) loads: Flights<Outcome>,
    /// Keys asked of their owners. May wait on `loads`.
    pub(crate) forwards: Flights<Outcome>,
    pub(crate) metrics: Arc<GroupMetrics>,
    /// Until when the origin is left in peace after a failure, ms.
    resting_until_ms: AtomicU64,
}

impl Group {
    pub(crate) fn new(
        name: Arc<str>,
        plan: Plan,
        parts: Parts,
        loader: Result<Arc<dyn Loader>, Arc<str>>,
    ) -> Self {
        let Parts { main, hot, loads, forwards, metrics } = parts;
        let resting_until_ms = AtomicU64::new(0);
        Self { name, plan, main, hot, loader, loads, forwards, metrics, resting_until_ms }
    }

    /// What outlives a change of the contract.
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            main: self.main.clone(),
            hot: self.hot.clone(),
            loads: self.loads.clone(),
            forwards: self.forwards.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// True while the origin is left in peace after a failure.
    pub(crate) fn is_resting(&self, now_ms: u64) -> bool {
        now_ms < self.resting_until_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn rest(&self, now_ms: u64) {
        self.resting_until_ms.store(now_ms + REST_MS, Ordering::Relaxed);
    }

    pub(crate) fn wake(&self) {
        if self.resting_until_ms.load(Ordering::Relaxed) != 0 {
            self.resting_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Drops keys (none: all) here, and makes later readers start anew. Fences first: a reader who
    /// still joins the old flight began before the invalidation was answered.
    pub(crate) fn drop_keys<K: AsRef<[u8]>>(&self, keys: &[K]) {
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

/// What outlives a change of a group's contract.
pub(crate) struct Parts {
    pub(crate) main: larder_engine::Group,
    pub(crate) hot: Option<larder_engine::Group>,
    pub(crate) loads: Flights<Outcome>,
    pub(crate) forwards: Flights<Outcome>,
    pub(crate) metrics: Arc<GroupMetrics>,
}

impl Plan {
    /// The engine's part of the plan.
    pub(crate) fn options(&self) -> GroupOptions {
        GroupOptions { policy: self.policy, ..GroupOptions::default() }
    }

    /// True when both get their values from the same place.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        match (&self.origin, &other.origin) {
            (Source::Described(a), Source::Described(b)) => a == b,
            (Source::Given(a), Source::Given(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// True when nothing would change.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.freshness == other.freshness
            && self.limits == other.limits
            && self.same_origin(other)
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
