//! The table of groups: swapped as a whole when contracts change, read without a lock.
//!
//! A changed contract keeps the entries of its group, and of all others, unless the origin itself
//! is another one: its values are none of the new origin's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{Group, Parts, Plan};
use super::{Cache, Error};
use crate::flight::Flights;
use crate::origin::Loader;

/// Makes the loader of a plan, behind its bulkhead; the error says what is wrong with the plan.
pub(crate) type MakeLoader<'f> = &'f dyn Fn(&Plan) -> Result<Arc<dyn Loader>, Arc<str>>;

impl Cache {
    /// Makes the groups what `plans` says. Groups that are not named become unknown.
    pub(crate) fn set_groups(&self, plans: &BTreeMap<String, Plan>, make: MakeLoader<'_>) {
        let old = self.0.groups.load_full();
        let mut new = HashMap::with_capacity(plans.len());
        for (name, plan) in plans {
            let group = match old.get(name.as_str()) {
                Some(group) => self.changed_group(group, plan, make),
                None => self.new_group(name, plan, make),
            };
            new.insert(group.name.clone(), group);
        }
        let gone: Vec<_> = old.values().filter(|g| !new.contains_key(&g.name)).cloned().collect();
        self.0.groups.store(Arc::new(new));
        self.0.joined.store(true, Ordering::Release);
        for group in gone {
            self.0.main.remove_group(&group.name);
            self.0.hot.iter().for_each(|hot| _ = hot.remove_group(&group.name));
            self.0.metrics.forget_group(&group.name);
            tracing::info!(group = %group.name, "group removed");
        }
    }

    /// True if a group's origin could not be made; another [`Cache::set_groups`] tries again.
    pub(crate) fn has_broken_group(&self) -> bool {
        self.0.groups.load().values().any(|group| group.loader.is_err())
    }

    /// What a read of a group is told that is not in the table.
    pub(super) fn unknown(&self, group: &str) -> Error {
        if self.0.joined.load(Ordering::Acquire) {
            Error::UnknownGroup { group: group.to_owned() }
        } else {
            Error::NotJoined
        }
    }

    fn new_group(&self, name: &str, plan: &Plan, make: MakeLoader<'_>) -> Arc<Group> {
        let add = |engine: &larder_engine::Cache| {
            let added = engine.add_group(name, plan.options());
            added.expect("removed together with the group of this name")
        };
        let parts = Parts {
            main: add(&self.0.main),
            hot: self.0.hot.as_ref().map(add),
            loads: self.flights(),
            forwards: self.flights(),
            metrics: Arc::new(self.0.metrics.group(name)),
        };
        tracing::info!(group = name, policy = %plan.policy, "group added");
        self.made(name.into(), plan, parts, make)
    }

    fn changed_group(&self, group: &Arc<Group>, plan: &Plan, make: MakeLoader<'_>) -> Arc<Group> {
        if group.plan.same(plan) && group.loader.is_ok() {
            return group.clone();
        }
        let mut parts = group.parts();
        let name = group.name.clone();
        if group.plan.policy != plan.policy {
            parts.main.update(plan.options());
        }
        if !group.plan.same_origin(plan) {
            group.drop_keys::<&[u8]>(&[]);
            parts.loads = self.flights();
            parts.forwards = self.flights();
        } else if group.plan.limits == plan.limits && group.loader.is_ok() {
            let loader = group.loader.clone();
            tracing::info!(group = %name, "group changed");
            return Arc::new(Group::new(name, plan.clone(), parts, loader));
        }
        tracing::info!(group = %name, "group changed, with its origin or limits");
        self.made(name, plan, parts, make)
    }

    fn made(&self, name: Arc<str>, plan: &Plan, parts: Parts, make: MakeLoader<'_>) -> Arc<Group> {
        let loader = make(plan);
        if let Err(problem) = &loader {
            tracing::warn!(group = %name, %problem, "origin cannot be used");
        }
        Arc::new(Group::new(name, plan.clone(), parts, loader))
    }

    fn flights<T: Clone + Send + Sync + 'static>(&self) -> Flights<T> {
        // Reloads have flights without a waiter, so this bound is one of its own.
        Flights::new(self.0.limits.max_waiting_requests)
    }
}
