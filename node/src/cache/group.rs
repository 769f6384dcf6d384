//! One group: its entries, its flights, its contract and its loader.
//!
//! A group is replaced as a whole when its contract changes. Entries, counters and, unless the
//! origin changed, flights are kept. A group never reads the registry.
//!
//! # A changed origin
//! The stores outlive the group, so a load of the old origin could fill them for the new one:
//!
//! 1. A load is queued with the old group.
//! 2. The contract changes: the stores are cleared, then the new group is published.
//! 3. The load takes its fence, which is newer than the clear, and the store accepts its value.
//!
//! [`Group::begin_load`] prevents it: the fence is taken first and the [`Seal`] is read after it,
//! while [`Group::retire_origin`] seals first and clears after it. A load that reads an open seal
//! has a fence from before the clear, so its value is refused; any other load stores nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_backoff::Backoff;
use larder_engine::{Fence, GroupOptions, Hit, PolicyKind, Tick};
use larder_proto::contract::{Freshness, Origin, OriginLimits};
use larder_proto::v1::{Source, StaleReason};

use super::answer::Answer;
use super::error::Error;
use super::failed_keys::FailedKeys;
use super::spread::SpreadKeys;
use crate::flight::Flights;
use crate::freshness::{self, Kind, Times, Verdict};
use crate::metrics::{GroupMetrics, OriginRefusal};
use crate::origin::{Guard, Health, Loader, Requester};

/// The desired state of a group, from a `CacheGroup` or from the embedding program.
#[derive(Clone)]
pub struct GroupPlan {
    /// Eviction policy.
    pub policy: PolicyKind,
    /// TTLs and stale windows.
    pub freshness: Freshness,
    /// Concurrency and time limits of loads.
    pub limits: OriginLimits,
    /// Bytes of own entries that no other group may use.
    pub guaranteed_bytes: u64,
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
    /// The loader behind its guard.
    pub(super) origin: Result<Arc<Guard>, Broken>,
    /// Loads from the origin. A load never waits for a forward, so members cannot wait for each
    /// other in a circle.
    pub(super) loads: Flights<LoadOutcome>,
    /// Requests to owners. May wait for a load.
    pub(super) forwards: Flights<LoadOutcome>,
    pub(super) metrics: Arc<GroupMetrics>,
    /// Identifies the origin among those that the members of a cluster may use for this group; 0
    /// if a loader was given, which has no description to compare.
    pub(super) origin_id: u64,
    pub(super) failed_keys: FailedKeys,
    /// Keys that all members should answer.
    pub(super) spread: Arc<SpreadKeys>,
    seal: Seal,
}

/// Why a loader could not be built from its contract, and when to try again.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) problem: Arc<str>,
    pub(super) retries: Backoff,
    pub(super) retry_at_ms: u64,
}

/// What a group keeps when its contract changes.
pub(super) struct GroupState {
    pub(super) main: larder_engine::Group,
    pub(super) hot: Option<larder_engine::Group>,
    pub(super) loads: Flights<LoadOutcome>,
    pub(super) forwards: Flights<LoadOutcome>,
    pub(super) metrics: Arc<GroupMetrics>,
    pub(super) spread: Arc<SpreadKeys>,
    pub(super) seal: Seal,
}

/// Closed once the origin of a group is replaced. Shared by all groups that succeed each other
/// with the same origin.
#[derive(Clone, Default)]
pub(super) struct Seal(Arc<AtomicBool>);

impl Group {
    pub(super) fn new(
        name: Arc<str>,
        plan: GroupPlan,
        state: GroupState,
        origin: Result<Arc<Guard>, Broken>,
    ) -> Self {
        let GroupState { main, hot, loads, forwards, metrics, spread, seal } = state;
        let origin_id = plan.origin_id();
        Self {
            name,
            plan,
            main,
            hot,
            origin,
            loads,
            forwards,
            metrics,
            origin_id,
            failed_keys: FailedKeys::default(),
            spread,
            seal,
        }
    }

    pub(super) fn state(&self) -> GroupState {
        GroupState {
            main: self.main.clone(),
            hot: self.hot.clone(),
            loads: self.loads.clone(),
            forwards: self.forwards.clone(),
            metrics: self.metrics.clone(),
            spread: self.spread.clone(),
            seal: self.seal.clone(),
        }
    }

    /// The fence of a load whose result goes into `store`, one of this group's. `None` if the
    /// group's origin was replaced: nothing may be stored.
    pub(super) fn begin_load(&self, store: &larder_engine::Group) -> Option<Fence> {
        let fence = store.begin_load();
        let replaced = self.seal.0.load(Ordering::SeqCst);
        (!replaced).then_some(fence)
    }

    /// Drops every entry and keeps loads of this origin from storing further ones.
    pub(super) fn retire_origin(&self) {
        self.seal.0.store(true, Ordering::SeqCst);
        self.drop_all();
    }

    /// What an entry of the main store is worth under the contract in force.
    pub(super) fn judge(&self, hit: &Hit, now_ms: u64) -> Verdict {
        let kind = if hit.is_absent() { Kind::Absent } else { Kind::Present };
        freshness::judge(times(hit), kind, &self.plan.freshness, now_ms)
    }

    /// A fresh copy of another member's entry. Counts as an access for the eviction policy.
    pub(super) fn hot_copy(&self, key: &[u8], now_ms: u64) -> Option<Answer> {
        self.fresh_copy(self.hot.as_ref()?.get(key, Tick::from_millis(now_ms))?, now_ms)
    }

    /// [`Group::hot_copy`] without counting as an access.
    pub(super) fn peek_hot_copy(&self, key: &[u8], now_ms: u64) -> Option<Answer> {
        self.fresh_copy(self.hot.as_ref()?.peek(key, Tick::from_millis(now_ms))?, now_ms)
    }

    /// A copy is as fresh as its owner said, until the copy's own TTL ends.
    fn fresh_copy(&self, hit: Hit, now_ms: u64) -> Option<Answer> {
        let end_ms = hit.fresh_until.as_millis();
        (now_ms < end_ms).then(|| self.fresh(hit, Source::Hot, end_ms - now_ms, now_ms))
    }

    /// The answer from an entry of this group. The seal keeps entries of an earlier origin out of
    /// the stores, so each is of this group's origin or of a later one.
    pub(super) fn fresh(&self, hit: Hit, source: Source, remaining_ms: u64, now_ms: u64) -> Answer {
        let origin_id = self.origin_id;
        Answer { origin_id, ..Answer::fresh(hit, source, remaining_ms, now_ms) }
    }

    /// The answer from an entry past its TTL.
    pub(super) fn stale(&self, hit: Hit, reason: StaleReason, now_ms: u64) -> Answer {
        let contract = &self.plan.freshness;
        let window_ms = match reason {
            StaleReason::Revalidating => contract.stale_while_revalidate_ms,
            _ => contract.stale_while_revalidate_ms.max(contract.stale_if_error_ms),
        };
        let left_ms = freshness::stale_remaining_ms(times(&hit), contract, window_ms, now_ms);
        Answer { origin_id: self.origin_id, ..Answer::stale(hit, reason, left_ms, now_ms) }
    }

    /// Why an entry that may be answered stale is answered without another load; `None` if the
    /// origin works.
    pub(super) fn origin_failure(&self, now_ms: u64) -> Option<StaleReason> {
        match self.origin.as_ref().ok()?.health(now_ms) {
            Health::Working => None,
            Health::Failing => Some(StaleReason::OriginFailed),
            Health::Suspended => Some(StaleReason::OriginSuspended),
        }
    }

    /// Why a load of `key` is refused now: the key failed lately, or the origin is suspended.
    pub(super) fn refusal(&self, key: &[u8], now_ms: u64) -> Option<Error> {
        if let Some(error) = self.failed_keys.error(key, now_ms) {
            self.metrics.refused(OriginRefusal::FailedKey);
            return Some(error);
        }
        let source = self.origin.as_ref().ok()?.suspension(now_ms)?;
        self.metrics.refused(OriginRefusal::Suspended);
        Some(Error::Origin { group: self.name.clone(), source })
    }

    /// Counts an error with which the origin's guard refused a load.
    pub(super) fn count_refusal(&self, error: &Error) {
        if let Some((refusal, _)) = error.guard_refusal() {
            self.metrics.refused(refusal);
        }
    }

    /// Why a load of `key` that is not in flight yet would be refused by the origin's guard now:
    /// decided here, it costs neither a task nor another thread.
    pub(super) fn overload(&self, key: &[u8], requester: Requester) -> Option<Error> {
        if self.loads.contains(key) {
            return None;
        }
        let source = self.origin.as_ref().ok()?.refusal(requester)?;
        let error = Error::Origin { group: self.name.clone(), source };
        self.count_refusal(&error);
        Some(error)
    }
}

impl GroupPlan {
    /// The part of the plan that the engine implements.
    pub(super) fn engine_options(&self) -> GroupOptions {
        GroupOptions { min_bytes: self.guaranteed_bytes, ..self.hot_options() }
    }

    /// [`GroupPlan::engine_options`] of the copies, for which nothing is guaranteed.
    pub(super) fn hot_options(&self) -> GroupOptions {
        GroupOptions { policy: self.policy, ..GroupOptions::default() }
    }

    /// Equal on members of one version that load from the same place.
    fn origin_id(&self) -> u64 {
        let OriginSource::Described(origin) = &self.origin else { return 0 };
        let mut hasher = DefaultHasher::new();
        serde_json::to_vec(origin).expect("plain data").hash(&mut hasher);
        hasher.finish().max(1)
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
            && self.guaranteed_bytes == other.guaranteed_bytes
            && self.has_same_origin(other)
    }
}

fn times(hit: &Hit) -> Times {
    Times { stored_at_ms: hit.stored_at.as_millis(), fresh_until_ms: hit.fresh_until.as_millis() }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
