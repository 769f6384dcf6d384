//! Owns the counters of a group and how they add up. Each shard counts for itself under its lock;
//! they are gathered when somebody reads them. It never resets one.

use std::ops::AddAssign;

/// Counters since the group was made, and gauges of this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Reads answered, absent and stale ones included.
    pub hits: u64,
    /// Hits whose entry says that the origin has no value.
    pub absent_hits: u64,
    /// Hits past `fresh_until`.
    pub stale_hits: u64,
    /// Reads not answered.
    pub misses: u64,
    /// Misses whose entry was here but past `keep_until`.
    pub expired_misses: u64,
    /// Entries stored, replacements included.
    pub insertions: u64,
    /// Entries stored over one with the same key.
    pub replaced: u64,
    /// Fills refused because an invalidation passed since their fence.
    pub refused_fenced: u64,
    /// Entries refused for their size.
    pub refused_too_large: u64,
    /// Entries that went to make room.
    pub evicted: u64,
    /// Absent entries that went because their quota was full.
    pub evicted_absent: u64,
    /// Entries that the sweep found past their life.
    pub expired: u64,
    /// Entries removed by key.
    pub invalidated: u64,
    /// Entries removed because the whole group was cleared.
    pub cleared: u64,
    /// Bytes charged now.
    pub bytes: u64,
    /// Of these, bytes of absent entries.
    pub absent_bytes: u64,
    /// Entries now.
    pub entries: u64,
    /// Bytes that the group may hold now.
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

/// What one [`Cache::sweep`](crate::Cache::sweep) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries removed because their life was over.
    pub expired: usize,
    /// Entries removed because their group's room had shrunk.
    pub evicted: usize,
    /// Entries of cleared groups whose memory was given back.
    pub buried: usize,
    /// True if the budget ended before the work.
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
