//! The common implementation of Fifo and Lru: one list that is evicted from its back. They differ
//! only in whether a hit moves a slot to the front.

use crate::policy::Policy;
use crate::queue::Queue;
use crate::slab::{Slab, Slot};

/// See the module. With `TOUCH`, a hit moves its slot to the front.
#[derive(Debug, Default)]
pub(crate) struct Line<const TOUCH: bool> {
    queue: Queue,
}

impl<const TOUCH: bool> Policy for Line<TOUCH> {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        self.queue.push_front(slab, slot);
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        if TOUCH {
            self.queue.touch(slab, slot);
        }
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
