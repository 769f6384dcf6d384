//! A group's counters, summed over members.

use larder_client::GroupStatus;

use crate::text::percent;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) absent: u64,
    pub(crate) stale: u64,
    pub(crate) loads: u64,
    pub(crate) load_errors: u64,
    pub(crate) evictions: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn of<'g>(groups: impl IntoIterator<Item = &'g GroupStatus>) -> Self {
        let mut totals = Self::default();
        groups.into_iter().for_each(|group| totals.add(group));
        totals
    }

    pub(crate) fn add(&mut self, group: &GroupStatus) {
        self.hits += group.hits;
        self.misses += group.misses;
        self.absent += group.absent;
        self.stale += group.stale;
        self.loads += group.loads;
        self.load_errors += group.load_errors;
        self.evictions += group.evictions;
        self.entries += group.entries;
        self.bytes += group.bytes;
    }

    /// Reads by applications.
    pub(crate) fn reads(&self) -> u64 {
        self.hits + self.stale + self.misses
    }

    /// Share of reads that did not wait for the origin, stale answers included.
    pub(crate) fn hit_ratio(&self) -> String {
        percent(self.hits + self.stale, self.reads())
    }
}
