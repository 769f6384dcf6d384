//! Least recently used: one list, a hit moves its slot to the front, the back goes first.

use crate::policy::Policy;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lru {
    queue: Queue,
}

impl Lru {
    pub(crate) fn new(_capacity_bytes: u64) -> Lru {
        Lru { queue: Queue::default() }
    }
}

impl Policy for Lru {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue.push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue.touch(slab, slot);
    }

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
    fn the_slot_not_asked_for_longest_goes_first() {
        let mut slab = Slab::default();
        let mut lru = Lru::new(0);
        let slots: Vec<Slot> = (0..3).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| lru.insert(&mut slab, slot));
        lru.hit(&mut slab, slots[0]);
        let order: Vec<Slot> = std::iter::from_fn(|| lru.evict(&mut slab)).collect();
        assert_eq!(order, [slots[1], slots[2], slots[0]]);
    }
}
