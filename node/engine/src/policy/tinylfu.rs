//! TinyLFU with rules that compete (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache
//! Admission Policy", ACM ToS 13(4), 2017; Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You
//! Need for Cache Eviction", SOSP 2023). The default of the engine.
//!
//! Newcomers enter a window; who may pass into the main part is the question, and traffic differs
//! in the answer. Where popularity lasts, counts over a long time tell best. In a loop larger
//! than the cache all keys count the same, and a newcomer, ahead by the request that brought it,
//! would push out what is asked for next: it must be ahead by more than that. Where popularity
//! moves, old counts mislead, and to be asked for again soon is the better sign. Where keys come
//! back soon and then never again, any barrier only delays. The original adapts one of these, the
//! window's size, by climbing along the measured hit ratio (Einziger, Eytan, Friedman, Manes,
//! "Adaptive Software Cache Management", Middleware 2018), which is slow and stops at the first
//! summit. Here one rule for each of those kinds of traffic ([`RULES`]) runs in miniature beside
//! the real lists (`trials.rs`), and the real ones follow a rule that is better beyond doubt.

use crate::policy::Policy;
use crate::policy::segments::{self, Segments};
use crate::policy::sketch::Sketch;
use crate::policy::trials::{RULES, Trials};
use crate::slab::{Node, Slab, Slot};

/// So many requests for a resident key are noted in its slot before all are counted: most hits
/// then write only to the slot, which is at hand.
const MOST_NOTED: u8 = 3;

/// See the module. A slot's `mark` belongs to the segments; its `heat` is what is noted.
#[derive(Debug)]
pub(crate) struct TinyLfu {
    segments: Segments,
    sketch: Sketch,
    trials: Trials,
    /// Index into [`RULES`].
    rule: usize,
    capacity_bytes: u64,
    /// What sketch, trials and memory took at the last insert. Hits let them grow too, but make
    /// no room: the next insert accounts for it.
    overhead_bytes: u64,
}

impl TinyLfu {
    pub(crate) fn new(capacity_bytes: u64) -> TinyLfu {
        let mut segments = Segments::new(RULES[0]);
        segments.set_room(capacity_bytes);
        let (sketch, trials) = (Sketch::default(), Trials::new(capacity_bytes));
        TinyLfu { segments, sketch, trials, rule: 0, capacity_bytes, overhead_bytes: 0 }
    }

    /// How many entries the capacity has room for; after a cut there may be many more.
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

    /// Counts a request, and those that are only noted.
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
        // What was learned at a far larger size takes too much of a small one.
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
        // Stable: of equal uses the main part's come first, newest first.
        slots.sort_by_key(|&slot| std::cmp::Reverse(segments::uses(slab[slot].mark)));
        slots
    }
}
