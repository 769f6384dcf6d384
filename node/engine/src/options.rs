//! Owns what a cache and its groups are made with. It never reads files or flags.

use crate::policy::PolicyKind;

/// How a [`Cache`](crate::Cache) is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that all groups together may hold, counted as [`weight`](crate::weight) counts.
    pub capacity_bytes: u64,
    /// Lock units of each group, rounded up to a power of two, 1 to 256. `None`: four for each
    /// core, but no more than leave 1 MiB of capacity to each.
    pub shards: Option<usize>,
    /// Largest weight of one entry; a heavier one is refused. A shard's part of the group's room
    /// is a limit too.
    pub max_entry_bytes: u64,
    /// Secret of the hash, so that nobody outside can aim keys at one shard. Any random number;
    /// a fixed one makes tests repeat.
    pub hash_seed: u64,
    /// Whether each group predicts its hit ratios at other sizes ([`Group::curve`](crate::Group)).
    pub curves: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            capacity_bytes: 64 << 20,
            shards: None,
            max_entry_bytes: 4 << 20,
            hash_seed: 0,
            curves: true,
        }
    }
}

impl Options {
    pub(crate) fn shard_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(4, std::num::NonZero::get);
        let by_room = usize::try_from(self.capacity_bytes >> 20).unwrap_or(usize::MAX);
        let wanted = self.shards.unwrap_or_else(|| (cores() * 4).min(by_room));
        wanted.clamp(1, 256).next_power_of_two()
    }
}

/// How one group behaves; all of it can be changed at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// Which entry goes first when room is needed.
    pub policy: PolicyKind,
    /// Room that other groups never borrow, in bytes.
    pub min_bytes: u64,
    /// Room that the group never exceeds, in bytes; `None`: the cache's capacity.
    pub max_bytes: Option<u64>,
    /// Part of the group's room that absent entries may take, 0 to 100.
    pub absent_percent: u8,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        let policy = PolicyKind::default();
        GroupOptions { policy, min_bytes: 0, max_bytes: None, absent_percent: 5 }
    }
}
