//! LRU-2 at constant cost, with watermarks: the victim should be the entry whose second-last use
//! lies longest ago (O'Neil, O'Neil, Weikum, "The LRU-K Page Replacement Algorithm", SIGMOD 1993),
//! approximated by two lists and a memory of evicted keys as in 2Q (Johnson and Shasha, "2Q: A
//! Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994).
//!
//! A key's first entry waits in `once`, in order of arrival. Over the high watermark `once` gives
//! up its oldest down to the low one, and their keys are remembered; a remembered key that comes
//! back has shown its second use and enters `often`, which is least recently used. Below the
//! watermarks `often` gives.

use crate::policy::Policy;
use crate::policy::ghost::Ghost;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// Above this percentage of the capacity `once` begins to give. The paper's A1in.
const HIGH_PERCENT: u64 = 25;
/// At this percentage it stops.
const LOW_PERCENT: u64 = 24;
/// Remembered keys weigh at most this percentage of the capacity. The paper's A1out.
const GHOST_PERCENT: u64 = 50;

const ONCE: u32 = 0;
const OFTEN: u32 = 1;

/// See the module. A slot's `mark` says which list holds it.
#[derive(Debug)]
pub(crate) struct Lru2 {
    once: Queue,
    often: Queue,
    ghost: Ghost,
    capacity_bytes: u64,
    /// True from the high watermark down to the low one.
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
        // Uses soon after the first one are correlated and say nothing: `once` stays in order.
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
