//! The entries of this member's keys, for a snapshot.

use std::sync::Arc;

use larder_engine::Tick;
use larder_proto::v1::StoredEntry;

use super::portable::to_stored;
use super::shared::Cache;

/// The main store of one group.
pub(crate) struct GroupContents {
    pub(crate) name: Arc<str>,
    pub(crate) origin_id: u64,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    store: larder_engine::Group,
}

impl Cache {
    /// The groups that have entries.
    pub(crate) fn contents(&self) -> Vec<GroupContents> {
        let groups = self.0.groups.load();
        let contents = groups.values().map(|group| {
            let stats = group.main.stats();
            GroupContents {
                name: group.name.clone(),
                origin_id: group.origin_id,
                bytes: stats.bytes,
                entries: stats.entries,
                store: group.main.clone(),
            }
        });
        contents.filter(|group| group.entries > 0).collect()
    }

    /// Changes whenever entries were stored or dropped one by one.
    pub(crate) fn changes(&self) -> u64 {
        let groups = self.0.groups.load();
        let changes = groups.values().map(|group| {
            let stats = group.main.stats();
            stats.insertions + stats.invalidated + stats.cleared
        });
        changes.fold(0, u64::wrapping_add)
    }
}

impl GroupContents {
    /// Calls `visit` with up to `max` entries, in approximate order of value. Their times count
    /// from `now_ms`.
    pub(crate) fn hottest_first(
        &self,
        now_ms: u64,
        max: usize,
        mut visit: impl FnMut(StoredEntry),
    ) {
        self.store.hottest_first(Tick::from_millis(now_ms), max, |key, hit| {
            visit(to_stored(key, hit, now_ms));
        });
    }
}
