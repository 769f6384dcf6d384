//! Invalidation by tag in O(1). A tag maps to a slot of a fixed table, which holds the epoch of the
//! slot's last invalidation. A read compares it with the epoch at which the entry's load started.
//! Invalidated entries are not searched for: they are never served and are evicted like cold
//! entries.
//!
//! Two tags that share a slot are invalidated together. That can cause an unnecessary reload but
//! never a stale answer. The table has a fixed size for any number of tags.

use std::sync::OnceLock;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::slab::Slot;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Slots of a group's table: 32 KiB, allocated when a tag is first invalidated.
const PLACES: usize = 4096;

/// Bytes charged for a tagged entry in addition to two per tag: its row in [`Tagged`] and the
/// allocation of its slots.
pub(crate) const TAGGED_BYTES: u64 = 80;

/// Slot of a tag.
pub(crate) fn place(tag: &[u8]) -> u16 {
    u16::try_from(xxh3_64(tag) % PLACES as u64).expect("below 4096")
}

/// Epoch of the last invalidation of each slot of a group (see `fence.rs`).
#[derive(Debug, Default)]
pub(crate) struct TagEpochs(OnceLock<Box<[AtomicU64]>>);

impl TagEpochs {
    pub(crate) fn invalidated(&self, tag: &[u8], epoch: u64) {
        let table = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        table[usize::from(place(tag))].fetch_max(epoch, Ordering::SeqCst);
    }

    /// True if any of the slots was invalidated after `epoch`.
    pub(crate) fn since(&self, places: &[u16], epoch: u64) -> bool {
        let Some(table) = self.0.get() else { return false };
        let later = |&place: &u16| table[usize::from(place)].load(Ordering::SeqCst) > epoch;
        places.iter().any(later)
    }
}

/// Slots of one tagged entry, and the epoch at which its load started.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) places: Box<[u16]>,
    pub(crate) epoch: u64,
}

/// Tagged entries of one shard. Stored outside the slab, so that entries without tags cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Tagged(HashMap<Slot, Places>);

impl Tagged {
    pub(crate) fn insert(&mut self, slot: Slot, places: Places) {
        self.0.insert(slot, places);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    pub(crate) fn is_dead(&self, slot: Slot, epochs: &TagEpochs) -> bool {
        self.0.get(&slot).is_some_and(|tagged| epochs.since(&tagged.places, tagged.epoch))
    }

    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
