//! Invalidation by tag in O(1). A tag maps to a slot of a fixed table, which holds the epoch of the
//! slot's last invalidation. A read compares it with the epoch at which the entry's load started.
//! Invalidated entries are not searched for: they are never served and are evicted like cold
//! entries.
//!
//! Two tags that share a slot are invalidated together. That can cause an unnecessary reload but
//! never a stale answer. The table has a fixed size for any number of tags.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::slab::Slot;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Slots of a group's table: 32 KiB, allocated when a tag is first invalidated.
const SLOTS: usize = 4096;

/// Bytes charged for a tagged entry in addition to two per tag: its row in [`Tagged`] and the
/// allocation of its slots with their counters.
pub(crate) const TAGGED_BYTES: u64 = 96;

/// The tags of an entry. Only their slots are kept, so an entry's tags can be compared with those
/// of an invalidation, but not be read. All processes with the same version of this crate give a
/// tag the same slot.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tags(Option<Arc<[u16]>>);

impl Tags {
    /// The slots, for another process. Empty without tags.
    #[must_use]
    pub fn slots(&self) -> &[u16] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The tags that another process has sent as [`Tags::slots`]. A number that is no slot is taken
    /// modulo their count.
    pub fn from_slots(slots: impl IntoIterator<Item = u32>) -> Tags {
        let in_table = |slot: u32| slot_of(u64::from(slot));
        Self::collect(slots.into_iter().map(in_table))
    }

    fn collect(slots: impl Iterator<Item = u16>) -> Tags {
        let slots: Arc<[u16]> = slots.collect();
        Self((!slots.is_empty()).then_some(slots))
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Tags {
        Self::collect(tags.into_iter().map(|tag| slot(tag.as_ref())))
    }
}

/// Slot of a tag.
fn slot(tag: &[u8]) -> u16 {
    slot_of(xxh3_64(tag))
}

fn slot_of(number: u64) -> u16 {
    u16::try_from(number % SLOTS as u64).expect("below 4096")
}

/// Epoch of the last invalidation of each slot of a group (see `fence.rs`).
#[derive(Debug, Default)]
pub(crate) struct TagEpochs(OnceLock<Box<[AtomicU64]>>);

impl TagEpochs {
    pub(crate) fn invalidated(&self, tag: &[u8], epoch: u64) {
        let table = self.0.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        table[usize::from(slot(tag))].fetch_max(epoch, Ordering::SeqCst);
    }

    /// True if any of the tags was invalidated after `epoch`.
    pub(crate) fn since(&self, tags: &Tags, epoch: u64) -> bool {
        let Some(table) = self.0.get() else { return false };
        let later = |&slot: &u16| table[usize::from(slot)].load(Ordering::SeqCst) > epoch;
        tags.slots().iter().any(later)
    }
}

/// Tags of one entry, and the epoch at which its load started.
#[derive(Debug, Clone)]
pub(crate) struct LoadTags {
    pub(crate) tags: Tags,
    pub(crate) epoch: u64,
}

/// Tagged entries of one shard. Stored outside the slab, so that entries without tags cost nothing.
#[derive(Debug, Default)]
pub(crate) struct Tagged(HashMap<Slot, LoadTags>);

impl Tagged {
    pub(crate) fn insert(&mut self, slot: Slot, tags: LoadTags) {
        self.0.insert(slot, tags);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    pub(crate) fn is_dead(&self, slot: Slot, epochs: &TagEpochs) -> bool {
        self.0.get(&slot).is_some_and(|tagged| epochs.since(&tagged.tags, tagged.epoch))
    }

    pub(crate) fn of(&self, slot: Slot) -> Tags {
        self.0.get(&slot).map(|tagged| tagged.tags.clone()).unwrap_or_default()
    }

    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
