//! Least frequently used with dynamic ageing: LFU-DA (Arlitt, Cherkasova, Dilley, Friedrich, Jin,
//! "Evaluating Content Management Techniques for Web Proxy Caches", 1999).
//!
//! A slot's rank is its number of uses plus the cache's age at its last use. The age is the rank of
//! the last victim. As the age rises, formerly popular entries sink, which plain LFU does not
//! allow. Slots of one rank form a list, from which the least recently used is evicted first.

use std::collections::BTreeMap;

use crate::policy::Policy;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// Ranks are stored in a slot's 32-bit mark. From this age on, all ranks are lowered together.
const REBASE_AT: u32 = 1 << 31;

/// See the module. A slot's `heat` counts its uses (at most 255), its `mark` is its rank.
#[derive(Debug)]
pub(crate) struct Lfu {
    ranks: BTreeMap<u32, Queue>,
    age: u32,
    bytes: u64,
}

impl Lfu {
    pub(crate) fn new(_capacity_bytes: u64) -> Lfu {
        Lfu { ranks: BTreeMap::new(), age: 0, bytes: 0 }
    }

    fn enter(&mut self, slab: &mut Slab, slot: Slot) {
        let node = &mut slab[slot];
        node.mark = self.age + u32::from(node.entry.heat);
        self.bytes += u64::from(node.entry.weight);
        self.ranks.entry(node.mark).or_default().push_front(slab, slot);
    }

    fn leave(&mut self, slab: &mut Slab, slot: Slot) {
        let rank = slab[slot].mark;
        self.bytes -= u64::from(slab[slot].entry.weight);
        let queue = self.ranks.get_mut(&rank).expect("a slot's rank has a list");
        queue.unlink(slab, slot);
        if queue.back().is_none() {
            self.ranks.remove(&rank);
        }
    }

    fn rebase(&mut self, slab: &mut Slab) {
        let age = std::mem::take(&mut self.age);
        for (rank, queue) in std::mem::take(&mut self.ranks) {
            // Ranks below the age can exist after removals. They count as equally cold.
            let lowered = rank.saturating_sub(age);
            let slots: Vec<Slot> = queue.iter(slab).collect();
            let target = self.ranks.entry(lowered).or_default();
            for slot in slots.into_iter().rev() {
                slab[slot].mark = lowered;
                target.push_front(slab, slot);
            }
        }
    }
}

impl Policy for Lfu {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        slab[slot].entry.heat = 1;
        self.enter(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        self.leave(slab, slot);
        let heat = &mut slab[slot].entry.heat;
        *heat = heat.saturating_add(1);
        self.enter(slab, slot);
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        let queue = self.ranks.get_mut(&slab[slot].mark).expect("a slot's rank has a list");
        queue.reweigh(slab, slot, old);
        self.bytes = self.bytes - u64::from(old) + u64::from(slab[slot].entry.weight);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.leave(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        let (&rank, queue) = self.ranks.first_key_value()?;
        let slot = queue.back().expect("an empty rank is removed");
        self.leave(slab, slot);
        self.age = self.age.max(rank);
        if self.age >= REBASE_AT {
            self.rebase(slab);
        }
        Some(slot)
    }

    fn set_capacity(&mut self, _bytes: u64) {}

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn overhead_bytes(&self) -> u64 {
        0
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        self.ranks.values().rev().flat_map(|queue| queue.iter(slab)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    fn filled(count: u32) -> (Slab, Lfu, Vec<Slot>) {
        let (mut slab, mut lfu) = (Slab::default(), Lfu::new(0));
        let slots: Vec<Slot> = (0..count).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| lfu.insert(&mut slab, slot));
        (slab, lfu, slots)
    }

    #[test]
    fn evicts_the_least_used_slot_and_of_equals_the_oldest() {
        let (mut slab, mut lfu, slots) = filled(3);
        lfu.hit(&mut slab, slots[0]);
        let order: Vec<Slot> = std::iter::from_fn(|| lfu.evict(&mut slab)).collect();
        assert_eq!(order, [slots[1], slots[2], slots[0]]);
    }

    #[test]
    fn a_formerly_popular_slot_ages_out() {
        let (mut slab, mut lfu, slots) = filled(1);
        (0..50).for_each(|_| lfu.hit(&mut slab, slots[0]));
        // New slots are used twice and evicted; each raises the age a little.
        let mut rounds = 0;
        loop {
            let id = put(&mut slab, 1_000 + rounds);
            lfu.insert(&mut slab, id);
            lfu.hit(&mut slab, id);
            let victim = lfu.evict(&mut slab).expect("two slots");
            if victim == slots[0] {
                break;
            }
            slab.remove(victim);
            rounds += 1;
        }
        assert!((20..100).contains(&rounds), "aged out after {rounds} rounds");
    }

    #[test]
    fn lowering_all_ranks_keeps_their_order() {
        let (mut slab, mut lfu, slots) = filled(4);
        lfu.hit(&mut slab, slots[2]);
        lfu.hit(&mut slab, slots[0]);
        lfu.hit(&mut slab, slots[0]);
        let before = lfu.hottest_first(&slab);
        lfu.rebase(&mut slab);
        assert_eq!(lfu.hottest_first(&slab), before);
    }
}
