//! The statistics of a group. Each shard counts under its own lock, and a read sums all shards.
//! Counters are never reset.

use std::ops::AddAssign;

/// Counters since the group was created, and current gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Reads that found an entry, including absent and stale ones.
    pub hits: u64,
    /// Hits of absent entries.
    pub absent_hits: u64,
    /// Hits past `fresh_until`.
    pub stale_hits: u64,
    /// Reads that found no entry to serve.
    pub misses: u64,
    /// Misses whose entry was past `keep_until` or had an invalidated tag.
    pub expired_misses: u64,
    /// Entries stored, including replacements.
    pub insertions: u64,
    /// Entries that replaced one with the same key.
    pub replaced: u64,
    /// Entries refused because they were invalidated after their fence was taken.
    pub refused_fenced: u64,
    /// Entries refused for their size.
    pub refused_too_large: u64,
    /// Entries evicted for room.
    pub evicted: u64,
    /// Absent entries evicted because their quota was full.
    pub evicted_absent: u64,
    /// Expired entries removed by the sweep.
    pub expired: u64,
    /// Entries removed by an invalidation of their key.
    pub invalidated: u64,
    /// Entries removed because the whole group was cleared.
    pub cleared: u64,
    /// Bytes currently charged.
    pub bytes: u64,
    /// Of these, bytes of absent entries.
    pub absent_bytes: u64,
    /// Current number of entries.
    pub entries: u64,
    /// Current limit of the group in bytes.
    pub limit_bytes: u64,
}

impl AddAssign for GroupStats {
    fn add_assign(&mut self, other: GroupStats) {
        self.hits += other.hits;
        self.absent_hits += other.absent_hits;
        self.stale_hits += other.stale_hits;
        self.misses += other.misses;
        self.expired_misses += other.expired_misses;
        self.insertions += other.insertions;
        self.replaced += other.replaced;
        self.refused_fenced += other.refused_fenced;
        self.refused_too_large += other.refused_too_large;
        self.evicted += other.evicted;
        self.evicted_absent += other.evicted_absent;
        self.expired += other.expired;
        self.invalidated += other.invalidated;
        self.cleared += other.cleared;
        self.bytes += other.bytes;
        self.absent_bytes += other.absent_bytes;
        self.entries += other.entries;
        self.limit_bytes += other.limit_bytes;
    }
}

/// The result of one [`Cache::sweep`](crate::Cache::sweep).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Expired entries removed.
    pub expired: usize,
    /// Entries evicted because the limit of their group was lowered.
    pub evicted: usize,
    /// Entries of cleared groups freed.
    pub buried: usize,
    /// True if work is left because the budget was used up.
    pub more: bool,
}

impl AddAssign for Swept {
    fn add_assign(&mut self, other: Swept) {
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.buried += other.buried;
        self.more |= other.more;
    }
}
