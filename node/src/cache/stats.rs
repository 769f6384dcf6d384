//! What this cache tells about itself: to Admin.Status, to `/metrics` and to its sweeper.

use larder_engine::{Curve, GroupStats, HotKey, Swept, Tick, TooYoung};

use super::{Cache, Error};
use crate::metrics::Outcome;

/// Entries that one sweep may remove before it lets others run.
const SWEEP_STEP: usize = 4_096;

/// One group's figures.
#[derive(Debug, Clone)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Its eviction policy.
    pub policy: &'static str,
    /// Our own entries.
    pub main: GroupStats,
    /// Copies of others' entries.
    pub hot: GroupStats,
    /// Reads by applications, by outcome.
    pub gets: [u64; Outcome::COUNT],
    /// Calls of the origin.
    pub loads: u64,
    /// Of these, those that failed.
    pub load_errors: u64,
}

impl Cache {
    /// Every group's figures, by name.
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

    /// What a group's own entries answer, and would with other memory or under another policy.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`]. Inside, that too little was seen to tell.
    pub fn curve(&self, group: &str) -> Result<Result<Curve, TooYoung>, Error> {
        let groups = self.0.groups.load();
        let found = groups.get(group).ok_or_else(|| self.unknown(group))?;
        Ok(found.main.curve(Tick::from_millis(self.0.clock.now_ms())))
    }

    /// Up to `max` keys of a group that this member is asked for most, the hottest first, be they
    /// its own or another member's.
    ///
    /// # Errors
    /// [`Error::UnknownGroup`].
    pub fn hot_keys(&self, group: &str, max: usize) -> Result<Vec<HotKey>, Error> {
        let groups = self.0.groups.load();
        let found = groups.get(group).ok_or_else(|| self.unknown(group))?;
        let now = Tick::from_millis(self.0.clock.now_ms());
        let stores = std::iter::once(&found.main).chain(&found.hot);
        let mut keys: Vec<HotKey> = stores.flat_map(|store| store.hot_keys(now, max)).collect();
        keys.sort_by(|a, b| b.reads_per_second.total_cmp(&a.reads_per_second));
        keys.truncate(max);
        Ok(keys)
    }

    /// Names of the groups, in order.
    #[must_use]
    pub fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.groups.load().keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Bytes that entries may use, own and copied.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.engines().map(larder_engine::Cache::capacity_bytes).sum()
    }

    /// Bytes that entries use now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.engines().map(larder_engine::Cache::bytes).sum()
    }

    /// Removes what is past its life; true if there is more to do at once.
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

impl GroupReport {
    /// Reads answered without a load, of all reads; nothing before the first read.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        hit_ratio(&self.gets)
    }
}

/// Reads answered without a load, of all reads; nothing when there was none.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no last bit")]
pub fn hit_ratio(gets: &[u64; Outcome::COUNT]) -> Option<f64> {
    let all: u64 = gets.iter().sum();
    let hits: u64 = Outcome::ALL.iter().zip(gets).filter(|(o, _)| o.is_hit()).map(|(_, n)| n).sum();
    (all > 0).then(|| hits as f64 / all as f64)
}
