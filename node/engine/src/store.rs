//! The content of one shard: hash table, slots, timer wheel and two policies (one for present
//! entries, one for absent entries, which have their own quota), kept consistent with each other.
//! `shard.rs` decides when to evict and counts statistics.

use hashbrown::HashTable;

use crate::entry::{Entry, Hit};
use crate::expiry::Wheel;
use crate::policy::{Lru, Policy, PolicyKind};
use crate::slab::{NIL, Node, Slab, Slot};
use crate::tags::{LoadTags, TagEpochs, Tagged};
use crate::tick::Tick;

/// Invariant: an occupied slot is in the table, in exactly one of the two policies and, if its
/// entry expires, in the wheel. A free slot is in none of them. `validate` checks this.
#[derive(Debug)]
pub(crate) struct Store {
    table: HashTable<Slot>,
    slab: Slab,
    wheel: Wheel,
    present: Box<dyn Policy>,
    absent: Lru,
    tagged: Tagged,
}

/// The result of a read.
pub(crate) enum Read {
    /// The key has no entry.
    Unknown,
    /// The key's entry may not be served any more.
    Dead,
    Answer(Hit),
}

/// Extends a slot's 32-bit hash to the table's 64 bits by a multiplication (Fibonacci hashing),
/// because the table takes its index from the low bits and its tag from the high bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Store {
    pub(crate) fn new(policy: PolicyKind, capacity_bytes: u64) -> Store {
        Store {
            table: HashTable::new(),
            slab: Slab::default(),
            wheel: Wheel::default(),
            present: policy.build(capacity_bytes),
            absent: Lru::default(),
            tagged: Tagged::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of process memory used by a miniature's store. Up to a chunk of slots more is
    /// allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = size_of::<Node>() as u64 + Entry::outlined_bytes();
        let bytes = self.slab.len() as u64 * each + self.present.overhead_bytes();
        self.table.allocation_size() + usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Removes all entries whose hash is `unwanted`.
    pub(crate) fn remove_where(&mut self, unwanted: impl Fn(u32) -> bool) {
        let slots = self.table.iter().copied();
        let gone: Vec<Slot> = slots.filter(|&slot| unwanted(self.slab[slot].hash)).collect();
        gone.into_iter().for_each(|slot| drop(self.remove(slot)));
    }

    /// Charged bytes: entries and the policy's own memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.present.bytes() + self.absent.bytes() + self.overhead_bytes()
    }

    /// Of these, the policy's own memory.
    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.present.overhead_bytes()
    }

    pub(crate) fn absent_bytes(&self) -> u64 {
        self.absent.bytes()
    }

    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &[u8]) -> Option<Slot> {
        let slab = &self.slab;
        let same = |&slot: &Slot| {
            let node = &slab[slot];
            node.hash == hash && node.entry.key() == key
        };
        self.table.find(spread(hash), same).copied()
    }

    pub(crate) fn entry(&self, slot: Slot) -> &Entry {
        &self.slab[slot].entry
    }

    /// The entry of a slot as a hit.
    #[inline]
    pub(crate) fn hit_of(&self, slot: Slot) -> Hit {
        let entry = &self.slab[slot].entry;
        let mut hit = entry.hit();
        if entry.is_tagged() {
            hit.tags = self.tagged.of(slot);
        }
        hit
    }

    /// True if the entry may not be served: it has expired, or one of its tags was invalidated.
    pub(crate) fn is_dead(&self, slot: Slot, now: Tick, tags: &TagEpochs) -> bool {
        let entry = &self.slab[slot].entry;
        entry.is_over(now) || (entry.is_tagged() && self.tagged.is_dead(slot, tags))
    }

    /// Reads a key: records the use in the policy, and returns the entry if it may be served.
    #[inline]
    pub(crate) fn read(&mut self, hash: u32, key: &[u8], now: Tick, tags: &TagEpochs) -> Read {
        let Some(slot) = self.find(hash, key) else { return Read::Unknown };
        let entry = &self.slab[slot].entry;
        let (hit, is_absent) = (self.hit_of(slot), entry.is_absent());
        let dead = now > hit.keep_until || (entry.is_tagged() && self.tagged.is_dead(slot, tags));
        // Record the use of a dead entry too: the insert that follows replaces it, so a hot key
        // does not become cold at the end of each life.
        if is_absent {
            self.absent.hit(&mut self.slab, slot);
        } else {
            self.present.hit(&mut self.slab, slot);
        }
        if dead { Read::Dead } else { Read::Answer(hit) }
    }

    /// Records a use of the slot's key in the policy.
    pub(crate) fn hit(&mut self, slot: Slot) {
        if self.slab[slot].entry.is_absent() {
            self.absent.hit(&mut self.slab, slot);
        } else {
            self.present.hit(&mut self.slab, slot);
        }
    }

    /// Inserts an entry whose key has no entry yet.
    pub(crate) fn insert(&mut self, hash: u32, entry: Entry, tags: Option<LoadTags>, now: Tick) {
        let slot = self.slab.insert(hash, entry);
        self.tag(slot, tags);
        let slab = &self.slab;
        self.table.insert_unique(spread(hash), slot, |&slot| spread(slab[slot].hash));
        self.wheel.insert(&mut self.slab, slot, now);
        self.enter_policy(slot);
    }

    /// Replaces the entry of a key and returns the old entry. The policy keeps its state of the
    /// key, unless the key changes between present and absent.
    pub(crate) fn replace(
        &mut self,
        slot: Slot,
        mut entry: Entry,
        tags: Option<LoadTags>,
        now: Tick,
    ) -> Entry {
        self.wheel.remove(&mut self.slab, slot);
        self.untag(slot);
        let old = if self.slab[slot].entry.is_absent() == entry.is_absent() {
            entry.heat = self.slab[slot].entry.heat;
            let old = std::mem::replace(&mut self.slab[slot].entry, entry);
            if old.is_absent() {
                self.absent.reweigh(&mut self.slab, slot, old.weight);
            } else {
                self.present.reweigh(&mut self.slab, slot, old.weight);
            }
            old
        } else {
            self.leave_policy(slot);
            let old = std::mem::replace(&mut self.slab[slot].entry, entry);
            self.slab[slot].mark = 0;
            self.enter_policy(slot);
            old
        };
        self.wheel.insert(&mut self.slab, slot, now);
        self.tag(slot, tags);
        old
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        self.leave_policy(slot);
        self.wheel.remove(&mut self.slab, slot);
        self.forget(slot)
    }

    /// Removes the entry that the policy of present entries selects as victim.
    pub(crate) fn evict_present(&mut self) -> Option<Entry> {
        let slot = self.present.evict(&mut self.slab)?;
        self.wheel.remove(&mut self.slab, slot);
        Some(self.forget(slot))
    }

    pub(crate) fn evict_absent(&mut self) -> Option<Entry> {
        let slot = self.absent.evict(&mut self.slab)?;
        self.wheel.remove(&mut self.slab, slot);
        Some(self.forget(slot))
    }

    /// Removes the next expired entry; see [`Wheel::pop`].
    pub(crate) fn expire(&mut self, now: Tick, steps: &mut usize) -> Option<Entry> {
        let slot = self.wheel.pop(&mut self.slab, now, steps)?;
        self.leave_policy(slot);
        Some(self.forget(slot))
    }

    pub(crate) fn expiry_caught_up(&self, now: Tick) -> bool {
        self.wheel.caught_up(now)
    }

    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.present.set_capacity(bytes);
    }

    /// Moves all entries to another policy, coldest first, so that the new policy starts with an
    /// approximation of the old order.
    pub(crate) fn change_policy(&mut self, kind: PolicyKind, capacity_bytes: u64) {
        let hottest_first = self.present.hottest_first(&self.slab);
        self.present = kind.build(capacity_bytes);
        for &slot in hottest_first.iter().rev() {
            self.slab[slot].mark = 0;
            self.slab[slot].entry.heat = 0;
            self.present.insert(&mut self.slab, slot);
        }
    }

    /// Slots of present entries, the most valuable first.
    pub(crate) fn hottest_first(&self) -> Vec<Slot> {
        self.present.hottest_first(&self.slab)
    }

    /// [`Store::hottest_first`], then the slots of absent entries in the same order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots = self.hottest_first();
        slots.extend(self.absent.hottest_first(&self.slab));
        slots
    }

    pub(crate) fn is_occupied(&self, slot: Slot) -> bool {
        self.slab.is_occupied(slot)
    }

    /// Removes entries from a store that is no longer read; see [`Slab::dismantle`].
    pub(crate) fn dismantle(&mut self, max: usize) -> impl Iterator<Item = Entry> + use<> {
        self.slab.dismantle(max).into_iter().map(|node: Node| node.entry)
    }

    fn enter_policy(&mut self, slot: Slot) {
        if self.slab[slot].entry.is_absent() {
            self.absent.insert(&mut self.slab, slot);
        } else {
            self.present.insert(&mut self.slab, slot);
        }
    }

    fn leave_policy(&mut self, slot: Slot) {
        if self.slab[slot].entry.is_absent() {
            self.absent.remove(&mut self.slab, slot);
        } else {
            self.present.remove(&mut self.slab, slot);
        }
    }

    fn tag(&mut self, slot: Slot, tags: Option<LoadTags>) {
        if let Some(tags) = tags {
            self.tagged.insert(slot, tags);
        }
    }

    fn untag(&mut self, slot: Slot) {
        if self.slab[slot].entry.is_tagged() {
            self.tagged.remove(slot);
        }
    }

    /// Removes a slot that is in no policy and not in the wheel from table and slab.
    fn forget(&mut self, slot: Slot) -> Entry {
        let hash = spread(self.slab[slot].hash);
        let found = self.table.find_entry(hash, |&other| other == slot);
        found.expect("every occupied slot is in the table").remove();
        self.untag(slot);
        self.slab.remove(slot)
    }

    /// Checks all invariants, for tests and the fuzz target.
    ///
    /// # Panics
    /// If an invariant is violated.
    pub(crate) fn validate(&self) {
        self.slab.validate();
        assert_eq!(self.table.len(), self.slab.len(), "table and slab have the same slots");
        let (mut present, mut absent) = (Held::default(), Held::default());
        let (mut tagged, mut ending) = (0, 0);
        for &slot in &self.table {
            let node = &self.slab[slot];
            assert!(node.entry.weight > 0, "the table has no free slot");
            assert_eq!(self.find(node.hash, node.entry.key()), Some(slot), "keys are unique");
            for (next, way) in [(node.next, true), (node.prev, false)] {
                let back = |other: &Node| if way { other.prev } else { other.next };
                assert!(next == NIL || back(&self.slab[next]) == slot, "links are consistent");
            }
            assert!(!node.entry.is_tagged() || self.tagged.has(slot), "a tagged entry has tags");
            tagged += usize::from(node.entry.is_tagged());
            ending += usize::from(node.entry.keep_until() != Tick::NEVER);
            let held = if node.entry.is_absent() { &mut absent } else { &mut present };
            held.slots.push(slot);
            held.bytes += u64::from(node.entry.weight);
        }
        assert_eq!(self.tagged.len(), tagged, "only tagged entries have tags");
        assert_eq!(
            self.wheel.validate(&self.slab),
            ending,
            "the wheel has all entries that expire"
        );
        present.compare(&*self.present, &self.slab);
        absent.compare(&self.absent, &self.slab);
    }
}

/// The slots and bytes that `validate` counts for one policy.
#[derive(Default)]
struct Held {
    slots: Vec<Slot>,
    bytes: u64,
}

impl Held {
    fn compare(mut self, policy: &dyn Policy, slab: &Slab) {
        assert_eq!(policy.bytes(), self.bytes, "a policy's bytes are those of its entries");
        let mut order = policy.hottest_first(slab);
        order.sort_unstable();
        self.slots.sort_unstable();
        assert_eq!(order, self.slots, "a policy lists each of its slots once");
    }
}
