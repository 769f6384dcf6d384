//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP
//! 2023). Most keys are used once, so new entries enter a small queue with a tenth of the capacity.
//! Only entries used at least twice there, and keys in the ghost list, enter the main queue. Both
//! queues are first in, first out. Uses are counted up to three; a used entry at the end of the
//! main queue is reinserted with its count decremented. A hit writes one byte.

use crate::policy::Policy;
use crate::policy::ghost::Ghost;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// Percentage of the capacity for the small queue, as in the paper.
const SMALL_PERCENT: u64 = 10;
/// Maximum weight of the ghosts, as a percentage of the capacity: the size of the main queue.
const GHOST_PERCENT: u64 = 90;
/// Uses are counted up to this number.
const MAX_USES: u8 = 3;
/// Uses in the small queue needed to enter the main queue.
const PROMOTED_USES: u8 = 2;

const SMALL: u32 = 0;
const MAIN: u32 = 1;

/// See the module. A slot's `heat` counts its uses, and its `mark` identifies its queue.
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

    /// Removes the oldest slot of the small queue that was not used enough. Slots that were used
    /// enough move to the main queue.
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

    /// Removes the oldest unused slot of the main queue. Terminates because each pass decrements
    /// the uses.
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
        // The sort is stable: of equal counts, the main queue's slots come first, newest first.
        slots.sort_by_key(|&slot| std::cmp::Reverse(slab[slot].entry.heat));
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    #[test]
    fn a_scan_stays_in_the_small_queue() {
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
    fn a_key_in_the_ghost_list_enters_the_main_queue_at_once() {
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
