//! Figures of this cache, for Admin.Status and `/metrics`, and the sweep of expired entries.

use std::sync::Arc;

use larder_engine::{Curve, GroupStats, HotKey, Swept, Tick, TooYoung};

use super::error::Error;
use super::group::Group;
use super::shared::Cache;
use crate::metrics::{CountedAs, EngineFigures, GroupFigures};
use crate::origin::Requester;

/// Entries that one sweep may remove before it yields.
const SWEEP_STEP: usize = 4_096;

/// Figures of one group.
#[derive(Debug, Clone)]
pub struct GroupReport {
    /// Name of the group.
    pub name: String,
    /// Eviction policy.
    pub policy: &'static str,
    /// Entries that this member owns.
    pub main: GroupStats,
    /// Copies of other members' entries.
    pub hot: GroupStats,
    /// Reads by applications, by [`CountedAs`].
    pub gets: [u64; CountedAs::COUNT],
    /// Loads from the origin.
    pub loads: u64,
    /// Those of `loads` that failed.
    pub load_errors: u64,
}

impl Cache {
    /// Finds the keys whose reads callers should spread, from their rates.
    pub(crate) fn find_spread_keys(&self) {
        for group in self.0.groups.load().values() {
            // Without hot caches the other members would ask the owner for each read.
            if group.hot.is_none() {
                continue;
            }
            let rates = |max| self.hot_keys(&group.name, max).unwrap_or_default();
            if let Some(keys) = group.spread.search(group.metrics.gets().iter().sum(), rates) {
                tracing::debug!(group = %group.name, keys, "keys are spread");
            }
        }
    }

    /// Figures of every group, sorted by name.
    #[must_use]
    pub fn report(&self) -> Vec<GroupReport> {
        let mut reports: Vec<_> = self
            .0
            .groups
            .load()
            .values()
            .map(|group| GroupReport {
                name: group.name.to_string(),
                policy: group.plan.policy.name(),
                main: group.main.stats(),
                hot: group.hot.as_ref().map(larder_engine::Group::stats).unwrap_or_default(),
                gets: group.metrics.gets(),
                loads: group.metrics.loads(),
                load_errors: group.metrics.load_errors(),
            })
            .collect();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }

    /// What one scrape of `/metrics` shows of the engines.
    pub(crate) fn figures(&self) -> EngineFigures {
        let groups = self.report().into_iter().map(|report| GroupFigures {
            curve: self.curve(&report.name).ok().and_then(Result::ok),
            name: report.name,
            main: report.main,
            hot: report.hot,
            gets: report.gets,
        });
        let waiting =
            Requester::ALL.map(|requester| (requester.label(), self.0.waiting.count(requester)));
        EngineFigures { groups: groups.collect(), waiting }
    }

    /// The hit ratio of a group's own entries, now and as predicted for other sizes and policies.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]. The inner error: too few reads were sampled for a prediction.
    pub fn curve(&self, group: &str) -> Result<Result<Curve, TooYoung>, Error> {
        Ok(self.group(group)?.main.curve(Tick::from_millis(self.0.clock.now_ms())))
    }

    /// Up to `max` of a group's most read keys at this member, the hottest first. Includes keys
    /// that other members own.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`].
    pub fn hot_keys(&self, group: &str, max: usize) -> Result<Vec<HotKey>, Error> {
        let group = self.group(group)?;
        let now = Tick::from_millis(self.0.clock.now_ms());
        let stores = std::iter::once(&group.main).chain(&group.hot);
        let mut keys: Vec<HotKey> = stores.flat_map(|store| store.hot_keys(now, max)).collect();
        keys.sort_by(|a, b| b.reads_per_second.total_cmp(&a.reads_per_second));
        keys.truncate(max);
        Ok(keys)
    }

    /// Names of the groups, sorted.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.groups.load().keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Requests that wait for a load or a peer now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        Requester::ALL.map(|requester| self.0.waiting.count(requester)).iter().sum()
    }

    /// Loads and forwards that have not ended, and calls of origins.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let groups = self.0.groups.load();
        let of_group = |group: &Arc<Group>| {
            let calls = group.origin.as_ref().map_or(0, |origin| origin.running());
            group.loads.len() + group.forwards.len() + calls
        };
        groups.values().map(of_group).sum()
    }

    /// Bytes that entries may use, owned and copied.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.engines().map(larder_engine::Cache::capacity_bytes).sum()
    }

    /// Changes the bytes that entries may use, owned and copied. Entries beyond a smaller capacity
    /// are evicted step by step.
    pub(crate) fn set_capacity(&self, main_bytes: u64, hot_bytes: u64) {
        self.0.main.set_capacity(main_bytes);
        self.0.hot.iter().for_each(|hot| hot.set_capacity(hot_bytes));
    }

    /// Bytes that entries use now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.engines().map(larder_engine::Cache::bytes).sum()
    }

    /// Removes expired entries. True if more remain.
    pub(crate) fn sweep(&self) -> bool {
        let now = Tick::from_millis(self.0.clock.now_ms());
        let mut swept = Swept::default();
        self.engines().for_each(|engine| swept += engine.sweep(now, SWEEP_STEP));
        swept.more
    }

    fn engines(&self) -> impl Iterator<Item = &larder_engine::Cache> {
        std::iter::once(&self.0.main).chain(&self.0.hot)
    }
}
