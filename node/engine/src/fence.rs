//! Owns the rule that a load begun before an invalidation never lands after it. It never waits
//! and tracks no load: a fence is a number, and forgetting one costs nothing.
//!
//! Every invalidation of a group takes the next epoch. A fence is the epoch at a load's start; the
//! fill is refused if its key's slot of [`Fences`] shows a later one. The race it closes:
//!
//! 1. load L misses and reads the old row from the origin;
//! 2. the row changes, and invalidation I removes the key (or finds nothing to remove);
//! 3. L's fill would store the old row, for its whole life.
//!
//! With the fence, 2 stamps the key's slot under the shard's lock and 3 sees the stamp under the
//! same lock. If L's fill takes the lock before I, I removes it. A fence read while I is under way
//! counts as before I unless I's epoch was already taken; refusing is always safe.

/// Slots per shard. Two keys that share one refuse each other's fills now and then: at 16 shards
/// and 100 invalidations during a load, one fill in 80 is answered but not stored.
const SLOTS: usize = 512;

/// A point in a group's history of invalidations, taken before a load begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    pub(crate) epoch: u64,
}

/// Latest invalidation of each slot of one shard. Bounded; made at the first invalidation.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    slots: Option<Box<[u64; SLOTS]>>,
    /// Epoch of the last clear: every key of the shard was invalidated then.
    cleared_at: u64,
}

impl Fences {
    pub(crate) fn invalidated(&mut self, hash: u32, epoch: u64) {
        let slots = self.slots.get_or_insert_with(|| Box::new([0; SLOTS]));
        let slot = &mut slots[hash as usize % SLOTS];
        *slot = epoch.max(*slot);
    }

    pub(crate) fn cleared(&mut self, epoch: u64) {
        self.cleared_at = epoch.max(self.cleared_at);
    }

    /// True if no invalidation of the key passed since the fence.
    pub(crate) fn open(&self, hash: u32, fence: Fence) -> bool {
        let key = self.slots.as_ref().map_or(0, |slots| slots[hash as usize % SLOTS]);
        self.cleared_at <= fence.epoch && key <= fence.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_closes_for_the_invalidated_key_only() {
        let mut fences = Fences::default();
        let fence = Fence { epoch: 4 };
        fences.invalidated(7, 5);
        assert!(!fences.open(7, fence));
        assert!(fences.open(8, fence));
        assert!(fences.open(7, Fence { epoch: 5 }));
    }

    #[test]
    fn a_clear_closes_every_earlier_fence() {
        let mut fences = Fences::default();
        fences.cleared(9);
        assert!(!fences.open(1, Fence { epoch: 8 }));
        assert!(fences.open(1, Fence { epoch: 9 }));
    }
}
