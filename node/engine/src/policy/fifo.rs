//! First in, first out: reads change nothing, the oldest entry goes first. The cheapest hit there
//! is, and the yardstick for every other policy.

use crate::policy::Policy;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// See the module.
#[derive(Debug)]
pub(crate) struct Fifo {
    queue: Queue,
}

impl Fifo {
    pub(crate) fn new(_capacity_bytes: u64) -> Fifo {
        Fifo { queue: Queue::default() }
    }
}

impl Policy for Fifo {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue.push_front(slab, slot);
    }

    fn hit(&mut self, _slab: &mut Slab, _slot: Slot) {}

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.queue.reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue.unlink(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        self.queue.pop_back(slab)
    }

    fn set_capacity(&mut self, _bytes: u64) {}

    fn bytes(&self) -> u64 {
        self.queue.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        0
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        self.queue.iter(slab).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    #[test]
    fn a_hit_saves_nothing() {
        let mut slab = Slab::default();
        let mut fifo = Fifo::new(0);
        let slots: Vec<Slot> = (0..3).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| fifo.insert(&mut slab, slot));
        fifo.hit(&mut slab, slots[0]);
        assert_eq!(fifo.evict(&mut slab), Some(slots[0]));
    }
}
