//! The keys of one trial: small slots without values, found by hash. Order and rule are in
//! `segments.rs`.

use hashbrown::HashTable;

use crate::queue::Arena;
use crate::slab::{NIL, Slot};

/// The keys of one trial.
#[derive(Debug, Default)]
pub(super) struct Keys {
    slots: Vec<Light>,
    free: Vec<Slot>,
    table: HashTable<Slot>,
}

#[derive(Debug)]
struct Light {
    prev: Slot,
    next: Slot,
    hash: u32,
    weight: u32,
    mark: u32,
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Keys {
    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of allocated slots.
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, hash: u32) -> Option<Slot> {
        self.table.find(spread(hash), |&slot| self.slots[slot as usize].hash == hash).copied()
    }

    pub(super) fn insert(&mut self, hash: u32, weight: u32) -> Slot {
        let light = Light { prev: NIL, next: NIL, hash, weight, mark: 0 };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = light;
            slot
        } else {
            self.slots.push(light);
            Slot::try_from(self.slots.len() - 1).expect("a trial has a few hundred keys")
        };
        let slots = &self.slots;
        self.table.insert_unique(spread(hash), slot, |&slot| spread(slots[slot as usize].hash));
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = spread(self.slots[slot as usize].hash);
        if let Ok(found) = self.table.find_entry(hash, |&other| other == slot) {
            found.remove();
            self.free.push(slot);
        }
    }

    pub(super) fn slots_where(&self, wanted: impl Fn(u32) -> bool) -> Vec<Slot> {
        let hash = |slot: &&Slot| wanted(self.slots[**slot as usize].hash);
        self.table.iter().filter(hash).copied().collect()
    }
}

impl Arena for Keys {
    fn prev(&self, slot: Slot) -> Slot {
        self.slots[slot as usize].prev
    }

    fn next(&self, slot: Slot) -> Slot {
        self.slots[slot as usize].next
    }

    fn set_prev(&mut self, slot: Slot, prev: Slot) {
        self.slots[slot as usize].prev = prev;
    }

    fn set_next(&mut self, slot: Slot, next: Slot) {
        self.slots[slot as usize].next = next;
    }

    fn weight(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].weight
    }

    fn hash(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].hash
    }

    fn mark(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].mark
    }

    fn set_mark(&mut self, slot: Slot, mark: u32) {
        self.slots[slot as usize].mark = mark;
    }
}
