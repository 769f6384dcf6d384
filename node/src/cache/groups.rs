//! The table of groups: replaced as a whole when contracts change, read without a lock.
//!
//! A changed contract keeps the entries of its group and of all others. Only a changed origin
//! clears its group: the old origin's values must not outlive it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_backoff::{Backoff, BackoffPolicy};
use larder_engine::GroupOptions;

use super::group::{Broken, Group, GroupPlan, GroupState, Seal};
use super::shared::Cache;
use crate::flight::Flights;
use crate::origin::{Guard, Loader, Requester};

/// Delays between two tries to build a loader whose contract has not changed.
const RETRY: Result<BackoffPolicy, larder_backoff::Error> =
    BackoffPolicy::new(Duration::from_secs(1), 2, Duration::from_mins(1), 20);

/// Builds the loader of a plan. The error says what is wrong with the plan.
type BuildLoader<'f> = &'f dyn Fn(&GroupPlan) -> Result<Arc<dyn Loader>, Arc<str>>;

impl Cache {
    /// Makes the groups match `plans`. Groups without a plan become unknown.
    pub(crate) fn set_groups(&self, plans: &BTreeMap<String, GroupPlan>, build: BuildLoader<'_>) {
        let old = self.0.groups.load_full();
        let mut new = HashMap::with_capacity(plans.len());
        for (name, plan) in plans {
            let group = match old.get(name.as_str()) {
                Some(group) => self.changed_group(group, plan, build),
                None => self.new_group(name, plan, build),
            };
            new.insert(group.name.clone(), group);
        }
        self.replace_groups(new);
        self.0.joined.store(true, Ordering::Release);
    }

    /// Drops every group and refuses requests as not joined, until [`Cache::set_groups`].
    pub(crate) fn leave(&self) {
        self.0.joined.store(false, Ordering::Release);
        self.replace_groups(HashMap::new());
    }

    fn replace_groups(&self, new: HashMap<Arc<str>, Arc<Group>>) {
        let new = Arc::new(new);
        let old = self.0.groups.swap(new.clone());
        let gone = old.values().filter(|group| !new.contains_key(&group.name));
        for group in gone {
            self.0.main.remove_group(&group.name);
            self.0.hot.iter().for_each(|hot| _ = hot.remove_group(&group.name));
            self.0.metrics.forget_group(&group.name);
            tracing::info!(group = %group.name, "group removed");
        }
    }

    /// True if a loader that could not be built is to be tried again, by [`Cache::set_groups`].
    pub(crate) fn has_group_to_retry(&self) -> bool {
        let now_ms = self.0.clock.now_ms();
        self.0.groups.load().values().any(|group| is_due(group, now_ms))
    }

    fn new_group(&self, name: &str, plan: &GroupPlan, build: BuildLoader<'_>) -> Arc<Group> {
        let add = |engine: &larder_engine::Cache, options: GroupOptions| {
            let added = engine.add_group(name, options);
            added.expect("the engine's group was removed together with the last one of this name")
        };
        let state = GroupState {
            main: add(&self.0.main, plan.engine_options()),
            hot: self.0.hot.as_ref().map(|hot| add(hot, plan.hot_options())),
            loads: self.flights(),
            forwards: self.flights(),
            metrics: Arc::new(self.0.metrics.group(name)),
            spread: Arc::default(),
            seal: Seal::default(),
        };
        tracing::info!(group = name, policy = %plan.policy, "group added");
        let origin = self.guarded(name, plan, build, None);
        Arc::new(Group::new(name.into(), plan.clone(), state, origin))
    }

    fn changed_group(
        &self,
        group: &Arc<Group>,
        plan: &GroupPlan,
        build: BuildLoader<'_>,
    ) -> Arc<Group> {
        if group.plan.is_same(plan) {
            return self.retried_group(group, build);
        }
        let mut state = group.state();
        let name = group.name.clone();
        if group.plan.engine_options() != plan.engine_options() {
            state.main.update(plan.engine_options());
        }
        if !group.plan.has_same_origin(plan) {
            group.retire_origin();
            state.seal = Seal::default();
            state.loads = self.flights();
            state.forwards = self.flights();
        } else if group.plan.limits == plan.limits && group.origin.is_ok() {
            let origin = group.origin.clone();
            tracing::info!(group = %name, "group changed");
            return Arc::new(Group::new(name, plan.clone(), state, origin));
        }
        tracing::info!(group = %name, "group changed, loader rebuilt");
        let origin = self.guarded(&name, plan, build, None);
        Arc::new(Group::new(name, plan.clone(), state, origin))
    }

    /// The group with another try to build its loader, if that is due.
    fn retried_group(&self, group: &Arc<Group>, build: BuildLoader<'_>) -> Arc<Group> {
        let Err(broken) = &group.origin else { return group.clone() };
        if !is_due(group, self.0.clock.now_ms()) {
            return group.clone();
        }
        let (name, plan) = (group.name.clone(), group.plan.clone());
        let origin = self.guarded(&name, &plan, build, Some(broken));
        if origin.is_ok() {
            tracing::info!(group = %name, "loader built");
        }
        Arc::new(Group::new(name, plan, group.state(), origin))
    }

    /// The plan's loader behind its guard. `before` is why the last try for this plan failed. A
    /// problem is logged once, not at every try.
    fn guarded(
        &self,
        name: &str,
        plan: &GroupPlan,
        build: BuildLoader<'_>,
        before: Option<&Broken>,
    ) -> Result<Arc<Guard>, Broken> {
        let problem = match build(plan) {
            Ok(loader) => return Ok(Arc::new(Guard::new(loader, &plan.limits, self.0.clock))),
            Err(problem) => problem,
        };
        if before.is_none_or(|before| before.problem != problem) {
            tracing::warn!(group = name, %problem, "origin is misconfigured");
        }
        let mut retries = before.map_or_else(
            || Backoff::new(RETRY.expect("a valid policy")),
            |before| before.retries.clone(),
        );
        let delay = retries.next_delay(self.0.random.ratio());
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Err(Broken { problem, retries, retry_at_ms: self.0.clock.now_ms() + delay_ms })
    }

    fn flights<T: Clone + Send + Sync + 'static>(&self) -> Flights<T> {
        // A bound of its own, because a reload is a flight without a waiting request. Room for
        // every request that may wait, so that those of one kind leave room for the other.
        Flights::new(self.0.limits.max_waiting_requests * Requester::ALL.len())
    }
}

/// True if the group's loader could not be built and it is time for another try.
fn is_due(group: &Group, now_ms: u64) -> bool {
    group.origin.as_ref().is_err_and(|broken| now_ms >= broken.retry_at_ms)
}
