//! Operations on a whole group: its part in the division of the capacity, sweeps, and its
//! prediction. Never looks up a key. Locks one shard after the other, for one step each.

use crate::budget::{Demand, Held};
use crate::curve::Present;
use crate::group::Inner;
use crate::shard::Limits;
use crate::stats::{GroupStats, Swept};
use crate::sync::atomic::Ordering;
use crate::tick::Tick;

/// Maximum number of entries processed under one lock.
const STEP: usize = 64;

impl Inner {
    /// Requests a division of the capacity after the first eviction since the last division, and
    /// after each eviction while the group's limit is below its share.
    pub(super) fn evicted_for_room(&self) {
        let first = !self.pressing.swap(true, Ordering::Relaxed);
        if (first || self.owed.load(Ordering::Relaxed))
            && let Some(core) = self.core.upgrade()
        {
            core.relieve();
        }
    }

    /// Demands room for an entry that the group's share refused. Without it, a group that holds
    /// little next to a full one would refuse such entries for ever: a refusal evicts nothing.
    pub(super) fn refused_for_share(&self, weight: u64, is_absent: bool) {
        let percent = u64::from(self.options.lock().absent_percent.clamp(1, 100));
        let wanted = if is_absent { weight * 100 / percent + 1 } else { weight };
        if self.demand_entry_room(wanted)
            && let Some(core) = self.core.upgrade()
        {
            core.relieve();
        }
    }

    /// Keeps up the demand of a group while it stores entries that its share once refused.
    pub(super) fn stored(&self, weight: u64) {
        if self.entry_room.load(Ordering::Relaxed) > 0 {
            self.demand_entry_room(weight);
        }
    }

    /// Raises the room for one entry, with a margin that lasts through the decay between two large
    /// entries. True if it rose.
    fn demand_entry_room(&self, weight: u64) -> bool {
        let room = weight + weight / 4;
        self.entry_room.load(Ordering::Relaxed) < room
            && self.entry_room.fetch_max(room, Ordering::Relaxed) < room
    }

    /// Ends the pressure, and lets the room for one entry decay: at four sweeps a second it halves
    /// in three minutes.
    pub(crate) fn forget_pressure(&self) {
        self.pressing.store(false, Ordering::Relaxed);
        let decay = |room: u64| (room > 0).then(|| room - room.div_ceil(1024));
        _ = self.entry_room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, decay);
    }

    pub(crate) fn demand(&self, capacity_bytes: u64) -> Demand {
        let options = self.options.lock();
        let max_bytes = options.max_bytes.unwrap_or(capacity_bytes).min(capacity_bytes);
        let entry_room = self.entry_room.load(Ordering::Relaxed).min(self.max_entry_bytes);
        let entry_room_bytes = entry_room.saturating_mul(self.shards.len() as u64);
        // An entry that no share can hold demands nothing.
        let is_possible = entry_room_bytes <= max_bytes;
        Demand {
            min_bytes: options.min_bytes.min(max_bytes),
            max_bytes,
            bytes: self.bytes(),
            entry_room_bytes: if is_possible { entry_room_bytes } else { 0 },
            pressing: self.pressing.load(Ordering::Relaxed),
        }
    }

    /// Lowers the limits of the shards to the group's share. The returned values stay valid upper
    /// bounds until [`Inner::raise`].
    pub(crate) fn hold(&self, target_bytes: u64) -> Held {
        let shards = self.shards.len() as u64;
        let percent = u64::from(self.options.lock().absent_percent.min(100));
        let due = target_bytes / shards;
        let most = Limits {
            bytes: due,
            absent_bytes: due * percent / 100,
            entry_bytes: self.max_entry_bytes.min(due),
        };
        let mut held = Held { target_bytes: due * shards, limit_bytes: 0, most_bytes: 0 };
        for unit in &self.shards {
            let limits = self.change(unit, |shard, _| {
                shard.set_limits(Limits { bytes: due.min(shard.limits().bytes), ..most });
                (shard.limits().bytes, shard.bytes())
            });
            held.limit_bytes += limits.0;
            held.most_bytes += limits.0.max(limits.1);
        }
        held
    }

    /// Raises the limit that [`Inner::hold`] has lowered.
    pub(crate) fn raise(&self, held: Held, limit_bytes: u64) {
        let bytes = limit_bytes / self.shards.len() as u64;
        self.owed.store(limit_bytes < held.target_bytes, Ordering::Relaxed);
        if limit_bytes > held.limit_bytes {
            for unit in &self.shards {
                self.change(unit, |shard, _| {
                    shard.set_limits(Limits { bytes, ..shard.limits() });
                });
            }
        }
    }

    /// Updates the prediction.
    pub(super) fn predict(&self, now: Tick) {
        if !self.watch.is_on() {
            return;
        }
        let mut stats = GroupStats::default();
        self.shards.iter().for_each(|unit| stats += unit.shard.lock().stats());
        let options = self.options.lock().clone();
        let present = Present {
            policy: options.policy,
            limit_bytes: stats.limit_bytes,
            absent_bytes: stats.limit_bytes / 100 * u64::from(options.absent_percent.min(100)),
            hits: stats.hits,
            misses: stats.misses,
        };
        self.watch.catch_up(&present, now);
    }

    /// Housekeeping in all shards, for at most about `max` entries.
    pub(crate) fn sweep(&self, now: Tick, max: usize) -> Swept {
        self.predict(now);
        let mut swept = Swept::default();
        for unit in &self.shards {
            loop {
                let left = max.saturating_sub(swept.expired + swept.evicted);
                if left == 0 {
                    return Swept { more: true, ..swept };
                }
                let step = self.change(unit, |shard, out| shard.sweep(now, left.min(STEP), out));
                swept += Swept { more: false, ..step };
                if !step.more {
                    break;
                }
            }
        }
        swept
    }

    /// Evicts at most about `max` entries until the group is within its limit.
    pub(crate) fn shrink(&self, max: usize) -> usize {
        let mut evicted = 0;
        for unit in &self.shards {
            if evicted >= max {
                break;
            }
            evicted += self.change(unit, |shard, out| shard.shrink((max - evicted).min(STEP), out));
        }
        evicted
    }
}
