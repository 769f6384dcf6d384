//! The table of groups: replaced as a whole when contracts change, read without a lock.
//!
//! A changed contract keeps the entries of its group and of all others. Only a changed origin
//! clears its group: the old origin's values must not outlive it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{Group, GroupPlan, GroupState};
use super::shared::Cache;
use crate::flight::Flights;
use crate::origin::Loader;

/// Builds the loader of a plan, behind its bulkhead. The error says what is wrong with the plan.
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

    /// True if the loader of a group could not be built. Another [`Cache::set_groups`] tries again.
    pub(crate) fn has_broken_group(&self) -> bool {
        self.0.groups.load().values().any(|group| group.loader.is_err())
    }

    fn new_group(&self, name: &str, plan: &GroupPlan, build: BuildLoader<'_>) -> Arc<Group> {
        let add = |engine: &larder_engine::Cache| {
            let added = engine.add_group(name, plan.engine_options());
            added.expect("the engine's group was removed together with the last one of this name")
        };
        let state = GroupState {
            main: add(&self.0.main),
            hot: self.0.hot.as_ref().map(add),
            loads: self.flights(),
            forwards: self.flights(),
            metrics: Arc::new(self.0.metrics.group(name)),
        };
        tracing::info!(group = name, policy = %plan.policy, "group added");
        with_loader(name.into(), plan, state, build)
    }

    fn changed_group(
        &self,
        group: &Arc<Group>,
        plan: &GroupPlan,
        build: BuildLoader<'_>,
    ) -> Arc<Group> {
        if group.plan.is_same(plan) && group.loader.is_ok() {
            return group.clone();
        }
        let mut state = group.state();
        let name = group.name.clone();
        if group.plan.policy != plan.policy {
            state.main.update(plan.engine_options());
        }
        if !group.plan.has_same_origin(plan) {
            group.drop_keys::<&[u8]>(&[]);
            state.loads = self.flights();
            state.forwards = self.flights();
        } else if group.plan.limits == plan.limits && group.loader.is_ok() {
            let loader = group.loader.clone();
            tracing::info!(group = %name, "group changed");
            return Arc::new(Group::new(name, plan.clone(), state, loader));
        }
        tracing::info!(group = %name, "group changed, loader rebuilt");
        with_loader(name, plan, state, build)
    }

    fn flights<T: Clone + Send + Sync + 'static>(&self) -> Flights<T> {
        // A bound of its own, because a reload is a flight without a waiting request.
        Flights::new(self.0.limits.max_waiting_requests)
    }
}

fn with_loader(
    name: Arc<str>,
    plan: &GroupPlan,
    state: GroupState,
    build: BuildLoader<'_>,
) -> Arc<Group> {
    let loader = build(plan);
    if let Err(problem) = &loader {
        tracing::warn!(group = %name, %problem, "origin is misconfigured");
    }
    Arc::new(Group::new(name, plan.clone(), state, loader))
}
