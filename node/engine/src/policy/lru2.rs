//! LRU-2 at constant cost, with watermarks. The ideal victim is the entry whose second-to-last use
//! is the oldest (O'Neil, O'Neil, Weikum, "The LRU-K Page Replacement Algorithm", SIGMOD 1993).
//! This is approximated by two lists and a ghost list of evicted keys as in 2Q (Johnson and Shasha,
//! "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994).
//!
//! The first entry of a key enters `once`, which is in order of arrival. Above the high watermark,
//! the oldest entries of `once` are evicted down to the low watermark, and their keys become
//! ghosts. A key that returns while it is a ghost has had its second use and enters `often`, an LRU
//! list. Below the watermarks, entries are evicted from `often`.

use crate::policy::Policy;
use crate::policy::ghost::Ghost;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// High watermark: above this percentage of the capacity, `once` is evicted. The paper's A1in.
const HIGH_PERCENT: u64 = 25;
/// Low watermark: at this percentage, the eviction of `once` stops.
const LOW_PERCENT: u64 = 24;
/// Maximum weight of the ghosts, as a percentage of the capacity. The paper's A1out.
const GHOST_PERCENT: u64 = 50;

const ONCE: u32 = 0;
const OFTEN: u32 = 1;

/// See the module. A slot's `mark` identifies its list.
#[derive(Debug)]
pub(crate) struct Lru2 {
    once: Queue,
    often: Queue,
    ghost: Ghost,
    capacity_bytes: u64,
    /// True while `once` is evicted from the high watermark down to the low one.
    draining: bool,
}

impl Lru2 {
    pub(crate) fn new(capacity_bytes: u64) -> Lru2 {
        let (once, often) = (Queue::default(), Queue::default());
        Lru2 { once, often, ghost: Ghost::default(), capacity_bytes, draining: false }
    }

    fn list(&mut self, mark: u32) -> &mut Queue {
        if mark == ONCE { &mut self.once } else { &mut self.often }
    }
}

impl Policy for Lru2 {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        let seen = self.ghost.remove(slab[slot].hash).is_some();
        let mark = if seen { OFTEN } else { ONCE };
        slab[slot].mark = mark;
        self.list(mark).push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        // Uses soon after the first one are correlated and not informative, so `once` keeps its
        // order.
        if slab[slot].mark == OFTEN {
            self.often.touch(slab, slot);
        }
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.list(slab[slot].mark).reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.list(slab[slot].mark).unlink(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        let share = if self.draining { LOW_PERCENT } else { HIGH_PERCENT };
        self.draining = self.once.bytes() > self.capacity_bytes * share / 100;
        if !self.draining
            && let Some(slot) = self.often.pop_back(slab)
        {
            return Some(slot);
        }
        let Some(slot) = self.once.pop_back(slab) else { return self.often.pop_back(slab) };
        self.ghost.push(slab[slot].hash, slab[slot].entry.weight);
        self.ghost.trim(self.capacity_bytes * GHOST_PERCENT / 100);
        Some(slot)
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.ghost.trim(bytes * GHOST_PERCENT / 100);
    }

    fn bytes(&self) -> u64 {
        self.once.bytes() + self.often.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        self.ghost.overhead_bytes()
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        self.often.iter(slab).chain(self.once.iter(slab)).collect()
    }
}
