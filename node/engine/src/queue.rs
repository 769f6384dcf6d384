//! Owns the doubly linked list over slab slots that every policy is made of. It counts its length
//! and its bytes; it never frees a slot and never decides an order.

use crate::slab::{NIL, Slab, Slot};

/// A list of slots with a front (newest by convention) and a back (oldest).
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    front: Slot,
    back: Slot,
    len: usize,
    /// Sum of the weights of the slots in it.
    bytes: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { front: NIL, back: NIL, len: 0, bytes: 0 }
    }
}

impl Queue {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn back(&self) -> Option<Slot> {
        (self.back != NIL).then_some(self.back)
    }

    pub(crate) fn push_front(&mut self, slab: &mut Slab, slot: Slot) {
        let node = &mut slab[slot];
        node.prev = NIL;
        node.next = self.front;
        self.len += 1;
        self.bytes += u64::from(node.entry.weight);
        match self.front {
            NIL => self.back = slot,
            front => slab[front].prev = slot,
        }
        self.front = slot;
    }

    /// Takes a slot out. It must be in this list: the links do not say whose they are.
    pub(crate) fn unlink(&mut self, slab: &mut Slab, slot: Slot) {
        let node = &slab[slot];
        let (prev, next) = (node.prev, node.next);
        self.len -= 1;
        self.bytes -= u64::from(node.entry.weight);
        match prev {
            NIL => self.front = next,
            prev => slab[prev].next = next,
        }
        match next {
            NIL => self.back = prev,
            next => slab[next].prev = prev,
        }
    }

    pub(crate) fn pop_back(&mut self, slab: &mut Slab) -> Option<Slot> {
        let slot = self.back()?;
        self.unlink(slab, slot);
        Some(slot)
    }

    /// Moves a slot of this list to its front.
    pub(crate) fn touch(&mut self, slab: &mut Slab, slot: Slot) {
        if self.front != slot {
            self.unlink(slab, slot);
            self.push_front(slab, slot);
        }
    }

    /// The weight of a slot of this list changed from `old` to what the slab says now.
    pub(crate) fn reweigh(&mut self, slab: &Slab, slot: Slot, old: u32) {
        self.bytes = self.bytes - u64::from(old) + u64::from(slab[slot].entry.weight);
    }

    /// Slots from front to back.
    pub(crate) fn iter<'a>(&self, slab: &'a Slab) -> impl Iterator<Item = Slot> + use<'a> {
        let mut at = self.front;
        std::iter::from_fn(move || {
            let slot = at;
            (slot != NIL).then(|| {
                at = slab[slot].next;
                slot
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::tests::put;

    #[test]
    fn touching_and_unlinking_keep_order_length_and_bytes() {
        let mut slab = Slab::default();
        let slots: Vec<Slot> = (0..4).map(|id| put(&mut slab, id)).collect();
        let mut queue = Queue::default();
        slots.iter().for_each(|&slot| queue.push_front(&mut slab, slot));
        queue.touch(&mut slab, slots[1]);
        queue.unlink(&mut slab, slots[2]);
        assert_eq!(queue.iter(&slab).collect::<Vec<_>>(), [slots[1], slots[3], slots[0]]);
        assert_eq!((queue.len(), queue.back()), (3, Some(slots[0])));
        assert_eq!(queue.bytes(), 3 * u64::from(slab[slots[0]].entry.weight));
        while queue.pop_back(&mut slab).is_some() {}
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }
}
