//! SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU", NSDI 2024): one queue
//! in order of arrival and a hand that moves from its oldest end. The hand skips used entries and
//! clears their marks; the first unused entry is evicted. Unlike in CLOCK, skipped entries keep
//! their place, so the hand soon reaches new entries. A hit writes one byte.

use crate::policy::Policy;
use crate::queue::Queue;
use crate::slab::{NIL, Slab, Slot};

/// See the module. A slot's `heat` is 1 if it was used since the hand last passed.
#[derive(Debug)]
pub(crate) struct Sieve {
    queue: Queue,
    /// Position of the hand; NIL means the oldest end.
    hand: Slot,
}

impl Sieve {
    pub(crate) fn new(_capacity_bytes: u64) -> Sieve {
        Sieve { queue: Queue::default(), hand: NIL }
    }

    fn unlink(&mut self, slab: &mut Slab, slot: Slot) {
        if self.hand == slot {
            self.hand = slab[slot].prev;
        }
        self.queue.unlink(slab, slot);
    }
}

impl Policy for Sieve {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        slab[slot].entry.heat = 0;
        self.queue.push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        slab[slot].entry.heat = 1;
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.queue.reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.unlink(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        let mut at = if self.hand == NIL { self.queue.back()? } else { self.hand };
        // Terminates within two rounds, because the first one clears all marks.
        while slab[at].entry.heat > 0 {
            slab[at].entry.heat = 0;
            at = match slab[at].prev {
                NIL => self.queue.back()?,
                newer => newer,
            };
        }
        self.hand = at;
        self.unlink(slab, at);
        Some(at)
    }

    fn set_capacity(&mut self, _bytes: u64) {}

    fn bytes(&self) -> u64 {
        self.queue.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        0
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.queue.iter(slab).collect();
        slots.sort_by_key(|&slot| std::cmp::Reverse(slab[slot].entry.heat));
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    #[test]
    fn the_hand_skips_used_slots_and_continues_from_its_position() {
        let (mut slab, mut sieve) = (Slab::default(), Sieve::new(0));
        let slots: Vec<Slot> = (0..5).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| sieve.insert(&mut slab, slot));
        sieve.hit(&mut slab, slots[0]);
        sieve.hit(&mut slab, slots[2]);
        assert_eq!(sieve.evict(&mut slab), Some(slots[1]));
        assert_eq!(sieve.evict(&mut slab), Some(slots[3]));
        assert_eq!(sieve.evict(&mut slab), Some(slots[4]));
        assert_eq!(sieve.evict(&mut slab), Some(slots[0]));
    }
}
