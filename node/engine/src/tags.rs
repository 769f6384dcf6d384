//! Owns invalidation by tag in O(1): a tag is a place in a fixed table, the table says when the
//! place was last invalidated, and a read compares that with when its entry's load began. Entries
//! that died by a tag are not searched for; they answer nothing and go like any cold entry.
//!
//! Two tags in one place are invalidated together now and then: a reload too many, never a stale
//! answer. The table has a fixed size however many tags there are.

use std::sync::OnceLock;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::slab::Slot;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Places of a group's table: 32 KiB, made at the first tag invalidated.
const PLACES: usize = 4096;

/// Bytes charged for a tagged entry beside two for each tag: its row in [`Tagged`] and the
/// allocation of the places.
pub(crate) const TAGGED_BYTES: u64 = 80;

/// Place of a tag.
pub(crate) fn place(tag: &[u8]) -> u16 {
    u16::try_from(xxh3_64(tag) % PLACES as u64).expect("below 4096")
}

/// When each place of a group was last invalidated, by the group's epochs (see `fence.rs`).
#[derive(Debug, Default)]
pub(crate) struct TagEpochs(OnceLock<Box<[AtomicU64]>>);

impl TagEpochs {
    pub(crate) fn invalidated(&self, tag: &[u8], epoch: u64) {
        let table = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        table[usize::from(place(tag))].fetch_max(epoch, Ordering::SeqCst);
    }

    /// True if any of the places was invalidated after `epoch`.
    pub(crate) fn since(&self, places: &[u16], epoch: u64) -> bool {
        let Some(table) = self.0.get() else { return false };
        let later = |&place: &u16| table[usize::from(place)].load(Ordering::SeqCst) > epoch;
        places.iter().any(later)
    }
}

/// Places of one tagged entry, and the epoch at which its load began.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) places: Box<[u16]>,
    pub(crate) epoch: u64,
}

/// Tagged entries of one shard. Beside the slab, so that an entry without tags pays nothing.
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
