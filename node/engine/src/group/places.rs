//! Walks all entries of a group in the order of their value, without a lock in between: places are
//! listed first, and read one by one afterwards.

use crate::entry::Hit;
use crate::group::Group;
use crate::slab::Slot;
use crate::tick::Tick;

/// Where a group held an entry when [`Group::places`] listed it. Another entry may be there later,
/// or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    shard: u16,
    slot: Slot,
}

impl Group {
    /// The places of all entries, the most valuable first: the first ones of each shard in the
    /// policy's order, then the second ones, and so on. Takes 8 bytes an entry, and locks one shard
    /// after the other while its order is read.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let slots = self.0.shards.iter().map(|unit| unit.shard.lock().slots());
        let mut shards: Vec<_> = (0..).zip(slots.map(Vec::into_iter)).collect();
        let count = shards.iter().map(|(_, slots)| slots.len()).sum();
        let mut places = Vec::with_capacity(count);
        while !shards.is_empty() {
            shards.retain_mut(|(shard, slots)| {
                let next = slots.next();
                places.extend(next.map(|slot| Place { shard: *shard, slot }));
                next.is_some()
            });
        }
        places
    }

    /// Calls `read` with the key at a place, if there is one. `read` runs under a lock: it must be
    /// short and must not call this group.
    pub fn key_at<R>(&self, place: Place, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let unit = self.0.shards.get(usize::from(place.shard))?;
        unit.shard.lock().key_at(place.slot).map(read)
    }

    /// The entry at a place, if there is one that may be served at `now`. No effect on the policy
    /// and the statistics.
    #[must_use]
    pub fn entry_at(&self, place: Place, now: Tick) -> Option<(Vec<u8>, Hit)> {
        let unit = self.0.shards.get(usize::from(place.shard))?;
        unit.shard.lock().entry_at(place.slot, now, &self.0.tags)
    }
}
