//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP
//! 2023): most keys are used once, so newcomers pass through a small queue of a tenth of the room;
//! only those used at least twice there, or remembered from an earlier pass, enter the main one.
//! Both are first in, first out; a use only counts up to three, and a used entry at the main
//! queue's end goes round again, one count poorer. A hit writes one byte.

use crate::policy::Policy;
use crate::policy::ghost::Ghost;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// The small queue's percentage of the capacity, as in the paper.
const SMALL_PERCENT: u64 = 10;
/// Remembered keys weigh at most this percentage of the capacity: what the main queue holds.
const GHOST_PERCENT: u64 = 90;
/// Uses are counted up to this.
const MAX_USES: u8 = 3;
/// Uses in the small queue that lead to the main one.
const PROMOTED_USES: u8 = 2;

const SMALL: u32 = 0;
const MAIN: u32 = 1;

/// See the module. A slot's `heat` counts its uses, its `mark` says which queue holds it.
#[derive(Debug)]
pub(crate) struct S3Fifo {
    small: Queue,
    main: Queue,
    ghost: Ghost,
    capacity_bytes: u64,
}

impl S3Fifo {
    pub(crate) fn new(capacity_bytes: u64) -> S3Fifo {
        let (small, main) = (Queue::default(), Queue::default());
        S3Fifo { small, main, ghost: Ghost::default(), capacity_bytes }
    }

    fn queue(&mut self, mark: u32) -> &mut Queue {
        if mark == SMALL { &mut self.small } else { &mut self.main }
    }

    /// The small queue's oldest that was not used enough; those that were move on.
    fn evict_small(&mut self, slab: &mut Slab) -> Option<Slot> {
        while let Some(slot) = self.small.pop_back(slab) {
            if slab[slot].entry.heat < PROMOTED_USES {
                self.ghost.push(slab[slot].hash, slab[slot].entry.weight);
                self.ghost.trim(self.capacity_bytes * GHOST_PERCENT / 100);
                return Some(slot);
            }
            slab[slot].entry.heat = 0;
            slab[slot].mark = MAIN;
            self.main.push_front(slab, slot);
        }
        None
    }

    /// The main queue's oldest that was not used; ends because every round takes a use away.
    fn evict_main(&mut self, slab: &mut Slab) -> Option<Slot> {
        while let Some(slot) = self.main.pop_back(slab) {
            if slab[slot].entry.heat == 0 {
                return Some(slot);
            }
            slab[slot].entry.heat -= 1;
            self.main.push_front(slab, slot);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        let seen = self.ghost.remove(slab[slot].hash).is_some();
        let mark = if seen { MAIN } else { SMALL };
        slab[slot].entry.heat = 0;
        slab[slot].mark = mark;
        self.queue(mark).push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        let heat = &mut slab[slot].entry.heat;
        *heat = (*heat + 1).min(MAX_USES);
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.queue(slab[slot].mark).reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue(slab[slot].mark).unlink(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        let small_gives = self.small.bytes() > self.capacity_bytes * SMALL_PERCENT / 100;
        if small_gives && let Some(slot) = self.evict_small(slab) {
            return Some(slot);
        }
        self.evict_main(slab).or_else(|| self.evict_small(slab)).or_else(|| self.evict_main(slab))
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.ghost.trim(bytes * GHOST_PERCENT / 100);
    }

    fn bytes(&self) -> u64 {
        self.small.bytes() + self.main.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        self.ghost.overhead_bytes()
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.main.iter(slab).chain(self.small.iter(slab)).collect();
        // Stable: of equal counts the main queue's come first, newest first.
        slots.sort_by_key(|&slot| std::cmp::Reverse(slab[slot].entry.heat));
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    #[test]
    fn a_scan_passes_through_the_small_queue_and_leaves_the_main_one_alone() {
        let (mut slab, mut s3) = (Slab::default(), S3Fifo::new(0));
        let hot = put(&mut slab, 0);
        s3.set_capacity(u64::from(slab[hot].entry.weight) * 10);
        s3.insert(&mut slab, hot);
        (0..2).for_each(|_| s3.hit(&mut slab, hot));
        for id in 1..100 {
            let slot = put(&mut slab, id);
            s3.insert(&mut slab, slot);
            if slab.len() > 10 {
                let victim = s3.evict(&mut slab).expect("eleven slots");
                assert_ne!(victim, hot);
                slab.remove(victim);
            }
        }
        assert_eq!(slab[hot].mark, MAIN);
    }

    #[test]
    fn a_remembered_key_enters_the_main_queue_at_once() {
        let (mut slab, mut s3) = (Slab::default(), S3Fifo::new(1_000));
        let first = put(&mut slab, 7);
        s3.insert(&mut slab, first);
        assert_eq!(s3.evict(&mut slab), Some(first));
        slab.remove(first);
        let again = put(&mut slab, 7);
        s3.insert(&mut slab, again);
        assert_eq!(slab[again].mark, MAIN);
    }
}
