//! ARC (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003), in
//! bytes. `recent` (T1) holds keys used once and `frequent` (T2) keys used again. Each has a ghost
//! list of the keys that it evicted (B1, B2). A hit in a ghost list shows that its list was too
//! small and moves the border `target` between the lists.

use crate::policy::Policy;
use crate::policy::ghost::Ghost;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

const RECENT: u32 = 0;
const FREQUENT: u32 = 1;

/// See the module. A slot's `mark` identifies its list.
#[derive(Debug)]
pub(crate) struct Arc {
    recent: Queue,
    frequent: Queue,
    evicted_recent: Ghost,
    evicted_frequent: Ghost,
    /// Target size of `recent` in bytes, 0 to the capacity.
    target: u64,
    capacity_bytes: u64,
}

impl Arc {
    pub(crate) fn new(capacity_bytes: u64) -> Arc {
        Arc {
            recent: Queue::default(),
            frequent: Queue::default(),
            evicted_recent: Ghost::default(),
            evicted_frequent: Ghost::default(),
            target: 0,
            capacity_bytes,
        }
    }

    fn list(&mut self, mark: u32) -> &mut Queue {
        if mark == RECENT { &mut self.recent } else { &mut self.frequent }
    }

    /// True if the key is in one of the ghost lists. Removes it there and moves the border.
    fn returns(&mut self, hash: u32, weight: u32) -> bool {
        let (b1, b2) = (self.evicted_recent.bytes(), self.evicted_frequent.bytes());
        let step = |other: u64, own: u64| u64::from(weight) * (other / own.max(1)).max(1);
        if self.evicted_recent.remove(hash).is_some() {
            self.target = (self.target + step(b2, b1)).min(self.capacity_bytes);
            true
        } else if self.evicted_frequent.remove(hash).is_some() {
            self.target = self.target.saturating_sub(step(b1, b2));
            true
        } else {
            false
        }
    }

    /// The paper's bounds: T1 + B1 at most the capacity, all four at most twice that.
    fn trim(&mut self) {
        let capacity = self.capacity_bytes;
        self.evicted_recent.trim(capacity.saturating_sub(self.recent.bytes()));
        let others = self.recent.bytes() + self.frequent.bytes() + self.evicted_recent.bytes();
        self.evicted_frequent.trim((2 * capacity).saturating_sub(others));
    }
}

impl Policy for Arc {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        let returns = self.returns(slab[slot].hash, slab[slot].entry.weight);
        let mark = if returns { FREQUENT } else { RECENT };
        slab[slot].mark = mark;
        self.list(mark).push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        self.list(slab[slot].mark).unlink(slab, slot);
        slab[slot].mark = FREQUENT;
        self.frequent.push_front(slab, slot);
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.list(slab[slot].mark).reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.list(slab[slot].mark).unlink(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        // The paper evicts before an insert and this cache after it. The newest entry of `recent`
        // therefore does not count, and is never evicted while there is another.
        let newest = self.recent.front().map_or(0, |slot| u64::from(slab[slot].entry.weight));
        let recent_gives =
            self.recent.bytes() - newest > self.target && self.recent.front() != self.recent.back();
        let from_recent = recent_gives || self.frequent.back().is_none();
        let slot = self.list(if from_recent { RECENT } else { FREQUENT }).pop_back(slab)?;
        let (hash, weight) = (slab[slot].hash, slab[slot].entry.weight);
        let memory =
            if from_recent { &mut self.evicted_recent } else { &mut self.evicted_frequent };
        memory.push(hash, weight);
        self.trim();
        Some(slot)
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.target = self.target.min(bytes);
        self.trim();
    }

    fn bytes(&self) -> u64 {
        self.recent.bytes() + self.frequent.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        self.evicted_recent.overhead_bytes() + self.evicted_frequent.overhead_bytes()
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        self.frequent.iter(slab).chain(self.recent.iter(slab)).collect()
    }
}
