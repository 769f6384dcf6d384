//! The doubly linked list of slots from which all policies are built. It tracks its length and
//! bytes. It never frees a slot and never decides an order.

use crate::slab::{NIL, Slab, Slot};

/// Storage of slots that a list can link: the slab, and the smaller slots of a trial
/// (`policy/trials.rs`).
pub(crate) trait Arena {
    fn prev(&self, slot: Slot) -> Slot;
    fn next(&self, slot: Slot) -> Slot;
    fn set_prev(&mut self, slot: Slot, prev: Slot);
    fn set_next(&mut self, slot: Slot, next: Slot);
    fn weight(&self, slot: Slot) -> u32;
    fn hash(&self, slot: Slot) -> u32;
    fn mark(&self, slot: Slot) -> u32;
    fn set_mark(&mut self, slot: Slot, mark: u32);
}

impl Arena for Slab {
    fn prev(&self, slot: Slot) -> Slot {
        self[slot].prev
    }

    fn next(&self, slot: Slot) -> Slot {
        self[slot].next
    }

    fn set_prev(&mut self, slot: Slot, prev: Slot) {
        self[slot].prev = prev;
    }

    fn set_next(&mut self, slot: Slot, next: Slot) {
        self[slot].next = next;
    }

    fn weight(&self, slot: Slot) -> u32 {
        self[slot].entry.weight
    }

    fn hash(&self, slot: Slot) -> u32 {
        self[slot].hash
    }

    fn mark(&self, slot: Slot) -> u32 {
        self[slot].mark
    }

    fn set_mark(&mut self, slot: Slot, mark: u32) {
        self[slot].mark = mark;
    }
}

/// A list of slots with a front (newest by convention) and a back (oldest).
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    front: Slot,
    back: Slot,
    len: usize,
    /// Sum of the weights of its slots.
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

    pub(crate) fn front(&self) -> Option<Slot> {
        (self.front != NIL).then_some(self.front)
    }

    pub(crate) fn back(&self) -> Option<Slot> {
        (self.back != NIL).then_some(self.back)
    }

    pub(crate) fn push_front(&mut self, arena: &mut impl Arena, slot: Slot) {
        arena.set_prev(slot, NIL);
        arena.set_next(slot, self.front);
        self.len += 1;
        self.bytes += u64::from(arena.weight(slot));
        match self.front {
            NIL => self.back = slot,
            front => arena.set_prev(front, slot),
        }
        self.front = slot;
    }

    pub(crate) fn push_back(&mut self, arena: &mut impl Arena, slot: Slot) {
        arena.set_prev(slot, self.back);
        arena.set_next(slot, NIL);
        self.len += 1;
        self.bytes += u64::from(arena.weight(slot));
        match self.back {
            NIL => self.front = slot,
            back => arena.set_next(back, slot),
        }
        self.back = slot;
    }

    /// Removes a slot, which must be in this list: the links do not identify their list.
    pub(crate) fn unlink(&mut self, arena: &mut impl Arena, slot: Slot) {
        let (prev, next) = (arena.prev(slot), arena.next(slot));
        self.len -= 1;
        self.bytes -= u64::from(arena.weight(slot));
        match prev {
            NIL => self.front = next,
            prev => arena.set_next(prev, next),
        }
        match next {
            NIL => self.back = prev,
            next => arena.set_prev(next, prev),
        }
    }

    pub(crate) fn pop_back(&mut self, arena: &mut impl Arena) -> Option<Slot> {
        let slot = self.back()?;
        self.unlink(arena, slot);
        Some(slot)
    }

    /// Moves a slot of this list to its front.
    pub(crate) fn touch(&mut self, arena: &mut impl Arena, slot: Slot) {
        if self.front != slot {
            self.unlink(arena, slot);
            self.push_front(arena, slot);
        }
    }

    /// Records that the weight of a slot of this list changed from `old` to the current one.
    pub(crate) fn reweigh(&mut self, arena: &impl Arena, slot: Slot, old: u32) {
        self.bytes = self.bytes - u64::from(old) + u64::from(arena.weight(slot));
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
    fn touch_and_unlink_maintain_order_length_and_bytes() {
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
