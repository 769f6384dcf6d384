//! TinyLFU with competing admission rules (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient
//! Cache Admission Policy", ACM ToS 13(4), 2017; Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are
//! All You Need for Cache Eviction", SOSP 2023). The default of the engine.
//!
//! New entries enter a window. The best rule for admission into the main part depends on the
//! workload:
//! - If popularity is stable, long-term counts are the best predictor.
//! - In a loop larger than the cache, all keys have equal counts. A new entry is ahead by the
//!   request that inserted it and would replace an entry that is needed sooner, so it must be ahead
//!   by more.
//! - If popularity shifts, old counts mislead, and a second request soon after is a better
//!   predictor.
//! - If keys return soon and then never again, any barrier only delays.
//!
//! The original adapts only the size of the window, by hill climbing on the measured hit ratio
//! (Einziger, Eytan, Friedman, Manes, "Adaptive Software Cache Management", Middleware 2018). That
//! is slow and stops at a local maximum. Here, one rule for each kind of workload ([`RULES`]) runs
//! in a miniature next to the real lists (`trials.rs`), and the real lists switch to a rule that is
//! significantly better.

use crate::policy::Policy;
use crate::policy::segments::{self, Segments};
use crate::policy::sketch::Sketch;
use crate::policy::trials::{RULES, Trials};
use crate::slab::{Node, Slab, Slot};

/// Requests for a resident key that are buffered in its slot before they are added to the sketch,
/// so that most hits write only to the slot, which is already in the processor's cache.
const MOST_NOTED: u8 = 3;

/// See the module. A slot's `mark` belongs to the segments; its `heat` counts buffered requests.
#[derive(Debug)]
pub(crate) struct TinyLfu {
    segments: Segments,
    sketch: Sketch,
    trials: Trials,
    /// Index into [`RULES`].
    rule: usize,
    capacity_bytes: u64,
    /// Bytes of sketch, trials and table of evicted keys at the last insert. Hits can grow them too
    /// but cannot evict, so the next insert accounts for the growth.
    overhead_bytes: u64,
}

impl TinyLfu {
    pub(crate) fn new(capacity_bytes: u64) -> TinyLfu {
        let mut segments = Segments::new(RULES[0]);
        segments.set_room(capacity_bytes);
        let (sketch, trials) = (Sketch::default(), Trials::new(capacity_bytes));
        TinyLfu { segments, sketch, trials, rule: 0, capacity_bytes, overhead_bytes: 0 }
    }

    /// Number of entries that fit the capacity. After a reduction there may be many more entries.
    fn entries_due(&self, slab: &Slab) -> usize {
        let (held, room) = (self.segments.bytes(), self.capacity_bytes);
        if held <= room {
            return slab.len();
        }
        let due = slab.len() as u128 * u128::from(room) / u128::from(held);
        usize::try_from(due).unwrap_or(slab.len())
    }

    fn leaves(&mut self, slab: &mut Slab, slot: Slot) {
        let Node { hash, entry, .. } = &mut slab[slot];
        self.trials.leaves(*hash, entry.weight);
        self.sketch.add(*hash, std::mem::take(&mut entry.heat));
    }

    fn recount(&mut self) {
        self.overhead_bytes = self.sketch.overhead_bytes()
            + self.trials.overhead_bytes()
            + self.segments.overhead_bytes();
    }

    /// Counts a request and the slot's buffered requests.
    fn request(&mut self, slab: &mut Slab, slot: Slot) {
        let entry = &mut slab[slot].entry;
        let (weight, noted) = (entry.weight, std::mem::take(&mut entry.heat));
        let (hash, room) = (slab[slot].hash, self.segments.room_bytes());
        self.sketch.add(hash, noted + 1);
        if self.trials.request(hash, weight, slab.len(), room, &self.sketch) {
            let best = self.trials.best(self.rule);
            if best != self.rule {
                self.rule = best;
                self.segments.set_rule(RULES[best]);
            }
        }
    }
}

impl Policy for TinyLfu {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        let entries = self.entries_due(slab);
        self.sketch.ensure(entries);
        self.segments.ensure(entries);
        self.trials.enters(slab[slot].hash, slab[slot].entry.weight);
        self.request(slab, slot);
        self.segments.insert(slab, slot);
        self.recount();
    }

    #[inline]
    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        let node = &mut slab[slot];
        if node.entry.heat < MOST_NOTED && !self.trials.tries(node.hash) {
            node.entry.heat += 1;
        } else {
            self.request(slab, slot);
        }
        self.segments.hit(slab, slot);
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.segments.reweigh(slab, slot, old);
        self.trials.leaves(slab[slot].hash, old);
        self.trials.enters(slab[slot].hash, slab[slot].entry.weight);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.segments.remove(slab, slot);
        self.leaves(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        let sketch = &self.sketch;
        let counts = |slab: &Slab, slot| sketch.count(slab[slot].hash) + slab[slot].entry.heat;
        let victim = self.segments.evict(slab, counts)?;
        self.leaves(slab, victim);
        Some(victim)
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.segments.set_room(bytes);
        self.trials.set_capacity(bytes);
        // The state of a far larger size would take too much of the new capacity.
        if self.overhead_bytes > bytes / 4 {
            self.sketch.shrink(bytes / 8);
            self.segments.shrink_memory(bytes / 16);
            self.trials.start_anew(bytes);
            self.recount();
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        self.overhead_bytes
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        let Segments { window, main, .. } = &self.segments;
        let mut slots: Vec<Slot> = main.iter(slab).chain(window.iter(slab)).collect();
        // The sort is stable: of equal uses, the main part's slots come first, newest first.
        slots.sort_by_key(|&slot| std::cmp::Reverse(segments::uses(slab[slot].mark)));
        slots
    }
}
