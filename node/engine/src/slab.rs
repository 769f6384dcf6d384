//! The slots of one shard: entries addressed by a 32-bit index, in chunks, so that growth never
//! moves an entry or copies under the lock. Knows neither keys nor policies: the links and the mark
//! of a node belong to the list that contains it.

use std::ops::{Index, IndexMut};

use crate::entry::Entry;

/// Index of a slot.
pub(crate) type Slot = u32;

/// No slot.
pub(crate) const NIL: Slot = u32::MAX;

/// Slots per chunk: 5 KiB, small enough for a group of a few entries.
const CHUNK: usize = 128;

/// One slot: an entry and its links in the policy's list and in the timer wheel.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) entry: Entry,
    /// Low half of the key's hash. The high half selects the shard.
    pub(crate) hash: u32,
    /// Data of the policy: the list that contains the slot, and further state.
    pub(crate) mark: u32,
    pub(crate) prev: Slot,
    pub(crate) next: Slot,
    pub(crate) timer_prev: u32,
    pub(crate) timer_next: u32,
}

// `SLOT_BYTES` charges this size; an additional field must be charged too.
const _: () = assert!(size_of::<Node>() <= 40);

impl Node {
    /// A node that is in no list.
    const fn new(hash: u32, entry: Entry) -> Node {
        Node { entry, hash, mark: 0, prev: NIL, next: NIL, timer_prev: NIL, timer_next: NIL }
    }
}

/// The slots of one shard.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    /// Chunks of fixed size, so that only the chunk's index needs a bounds check.
    chunks: Vec<Box<[Node; CHUNK]>>,
    /// Number of slots that were ever used. Later slots are vacant and in no list.
    used: usize,
    /// Head of the list of free slots, which are linked by `next` and end with NIL.
    free: Option<Slot>,
    len: usize,
}

impl Slab {
    /// Number of occupied slots.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// False also for a number that is no slot.
    pub(crate) fn is_occupied(&self, slot: Slot) -> bool {
        (slot as usize) < self.used && self[slot].entry.weight > 0
    }

    /// Puts an entry into a free slot, which is in no list yet.
    pub(crate) fn insert(&mut self, hash: u32, entry: Entry) -> Slot {
        self.len += 1;
        let slot = if let Some(slot) = self.free {
            let next = self[slot].next;
            self.free = (next != NIL).then_some(next);
            slot
        } else {
            if self.used == self.chunks.len() * CHUNK {
                self.chunks.push(Box::new([const { Node::new(0, Entry::vacant()) }; CHUNK]));
            }
            self.used += 1;
            let slot = Slot::try_from(self.used - 1);
            slot.expect("a shard's limit is reached long before 2^32 slots")
        };
        self[slot] = Node::new(hash, entry);
        slot
    }

    /// Removes an entry and frees its slot, which the caller has unlinked from every list.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        self.len -= 1;
        let free = self.free.replace(slot).unwrap_or(NIL);
        let node = &mut self[slot];
        node.next = free;
        std::mem::replace(&mut node.entry, Entry::vacant())
    }

    /// Removes whole chunks from the end, for a store that is being freed: at least the entries of
    /// one chunk, at most `max` rounded up to a chunk. Indices are invalid afterwards.
    pub(crate) fn dismantle(&mut self, max: usize) -> Vec<Node> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(chunk) = self.chunks.pop() else { break };
            taken.extend(chunk.into_iter().filter(|node| node.entry.weight > 0));
        }
        self.len -= taken.len();
        taken
    }

    /// Checks that each slot is either occupied or in the list of free slots.
    ///
    /// # Panics
    /// If a slot is neither or both.
    pub(crate) fn validate(&self) {
        let nodes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        let occupied = nodes.filter(|node| node.entry.weight > 0).count();
        assert_eq!(occupied, self.len, "the length equals the number of occupied slots");
        let mut free = 0;
        let mut at = self.free.unwrap_or(NIL);
        while at != NIL {
            assert_eq!(self[at].entry.weight, 0, "a free slot has no entry");
            free += 1;
            assert!(free <= self.used, "the list of free slots ends");
            at = self[at].next;
        }
        assert_eq!(occupied + free, self.used, "no slot is lost");
    }
}

impl Index<Slot> for Slab {
    type Output = Node;

    #[inline]
    fn index(&self, slot: Slot) -> &Node {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl IndexMut<Slot> for Slab {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{NewEntry, Tick, Value};

    /// Adds an absent entry with a key of four bytes, for tests of lists and policies.
    pub(crate) fn put(slab: &mut Slab, id: u32) -> Slot {
        let new = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 0);
        let entry = Entry::pack(&id.to_be_bytes(), &new, Tick::ZERO).expect("a short key");
        slab.insert(id, entry)
    }

    #[test]
    fn freed_slots_are_reused_before_the_slab_grows() {
        let mut slab = Slab::default();
        let slots: Vec<Slot> = (0..300).map(|id| put(&mut slab, id)).collect();
        for &slot in slots.iter().rev().take(200) {
            slab.remove(slot);
        }
        let again: Vec<Slot> = (300..500).map(|id| put(&mut slab, id)).collect();
        assert!(again.iter().all(|&slot| slot < 300));
        assert_eq!(slab.len(), 300);
    }

    #[test]
    fn dismantle_returns_every_occupied_slot_once() {
        let mut slab = Slab::default();
        let slots: Vec<Slot> = (0..300).map(|id| put(&mut slab, id)).collect();
        slab.remove(slots[7]);
        let mut seen = 0;
        loop {
            let taken = slab.dismantle(1);
            if taken.is_empty() {
                break;
            }
            assert!(taken.len() <= CHUNK);
            seen += taken.len();
        }
        assert_eq!((seen, slab.len()), (299, 0));
    }
}
