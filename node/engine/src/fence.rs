//! Fences: the result of a load that started before an invalidation is never stored after it. Never
//! waits and tracks no loads: a fence is a number and can simply be dropped.
//!
//! Every invalidation of a group takes the next epoch. A fence is the epoch at the start of a load.
//! The insert of its result is refused if the key's slot in [`Fences`] has a later epoch. This
//! prevents the following race:
//!
//! 1. Load L misses and reads the old row from the origin.
//! 2. The row changes, and invalidation I removes the key (or finds nothing to remove).
//! 3. L inserts the old row, which would be served for its whole life.
//!
//! With the fence, step 2 stamps the key's slot under the shard's lock, and step 3 sees the stamp
//! under the same lock. If L's insert acquires the lock before I, then I removes it. A fence that
//! is taken during I counts as before I unless I already took its epoch; refusing is always safe.

/// Slots per shard. Two keys that share a slot can refuse each other's inserts: with 16 shards and
/// 100 invalidations during a load, one result in 80 is returned but not stored.
const SLOTS: usize = 512;

/// A point in a group's sequence of invalidations, taken before a load starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    pub(crate) epoch: u64,
}

/// The latest invalidation of each slot of one shard. Bounded, and allocated by the first
/// invalidation.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    slots: Option<Box<[u64; SLOTS]>>,
    /// Epoch of the last clear, which invalidated every key of the shard.
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

    /// True if the key was not invalidated after the fence was taken.
    pub(crate) fn open(&self, hash: u32, fence: Fence) -> bool {
        let key = self.slots.as_ref().map_or(0, |slots| slots[hash as usize % SLOTS]);
        self.cleared_at <= fence.epoch && key <= fence.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalidation_closes_fences_of_its_key_only() {
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
