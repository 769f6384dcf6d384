//! Options of a cache and its groups.

use crate::policy::PolicyKind;

/// Options of a [`Cache`](crate::Cache).
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of bytes that all groups hold together, in terms of
    /// [`weight`](crate::weight).
    pub capacity_bytes: u64,
    /// Shards (lock units) of each group, 1 to 256, rounded up to a power of two. `None` means four
    /// per core, but at most one per MiB of capacity.
    pub shards: Option<usize>,
    /// Maximum weight of one entry; a heavier entry is refused. The limit of its shard applies too.
    pub max_entry_bytes: u64,
    /// Secret seed of the hash, so that an attacker cannot choose keys of one shard. Use a random
    /// number, or a fixed one for repeatable tests.
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

/// Options of one group. All of them can be changed at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// The eviction policy.
    pub policy: PolicyKind,
    /// Bytes that are never lent to other groups.
    pub min_bytes: u64,
    /// Maximum number of bytes; `None` means the cache's capacity.
    pub max_bytes: Option<u64>,
    /// Percentage of the group's limit that absent entries may use, 0 to 100.
    pub absent_percent: u8,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        let policy = PolicyKind::default();
        GroupOptions { policy, min_bytes: 0, max_bytes: None, absent_percent: 5 }
    }
}
