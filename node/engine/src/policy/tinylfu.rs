//! W-TinyLFU with an adaptive window (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache
//! Admission Policy", ACM ToS 13(4), 2017; Einziger, Eytan, Friedman, Manes, "Adaptive Software
//! Cache Management", Middleware 2018).
//!
//! Newcomers enter a window that is least recently used. What leaves it enters the main part only
//! if it was asked for more often, by an ageing sketch, than what would leave there. A small window
//! keeps scans and loops out, a large one follows traffic whose keys come back soon and then never
//! again. Which is right depends on the traffic, so several sizes run in miniature beside the real
//! one (`trials.rs`) and the window follows the best; the lists adjust as entries come.

use crate::policy::Policy;
use crate::policy::segments::Segments;
use crate::policy::sketch::Sketch;
use crate::policy::trials::{Trials, WINDOWS};
use crate::slab::{Slab, Slot};

/// See the module. A slot's `mark` belongs to the segments.
#[derive(Debug)]
pub(crate) struct TinyLfu {
    segments: Segments,
    sketch: Sketch,
    trials: Trials,
    /// Index into [`WINDOWS`].
    window: usize,
    capacity_bytes: u64,
    /// What sketch and trials took at the last insert. Hits let them grow too, but make no room:
    /// the next insert accounts for it.
    overhead_bytes: u64,
}

impl TinyLfu {
    pub(crate) fn new(capacity_bytes: u64) -> TinyLfu {
        let mut segments = Segments::default();
        segments.set_room(capacity_bytes, WINDOWS[0]);
        let (sketch, trials) = (Sketch::default(), Trials::new(capacity_bytes));
        TinyLfu { segments, sketch, trials, window: 0, capacity_bytes, overhead_bytes: 0 }
    }

    fn request(&mut self, slab: &Slab, slot: Slot) {
        let (hash, weight) = (slab[slot].hash, slab[slot].entry.weight);
        self.sketch.increment(hash);
        if self.trials.request(hash, weight, slab.len(), &self.sketch) {
            let best = self.trials.best(self.window);
            if best != self.window {
                self.window = best;
                self.segments.set_room(self.capacity_bytes, WINDOWS[best]);
            }
        }
    }
}

impl Policy for TinyLfu {
    fn insert(&mut self, slab: &mut Slab, slot: Slot) {
        self.sketch.ensure(slab.len());
        self.request(slab, slot);
        self.segments.insert(slab, slot);
        self.overhead_bytes = self.sketch.overhead_bytes() + self.trials.overhead_bytes();
    }

    fn hit(&mut self, slab: &mut Slab, slot: Slot) {
        self.request(slab, slot);
        self.segments.hit(slab, slot);
    }

    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32) {
        self.segments.reweigh(slab, slot, old);
    }

    fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        self.segments.remove(slab, slot);
    }

    fn evict(&mut self, slab: &mut Slab) -> Option<Slot> {
        self.segments.evict(slab, &self.sketch)
    }

    fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.segments.set_room(bytes, WINDOWS[self.window]);
        self.trials.set_capacity(bytes);
        // What was learned at a far larger size takes too much of a small one: learn anew.
        if self.overhead_bytes > bytes / 4 {
            self.sketch = Sketch::default();
            self.trials = Trials::new(bytes);
            self.overhead_bytes = 0;
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    fn overhead_bytes(&self) -> u64 {
        self.overhead_bytes
    }

    fn hottest_first(&self, slab: &Slab) -> Vec<Slot> {
        let Segments { window, probation, protected, .. } = &self.segments;
        protected.iter(slab).chain(window.iter(slab)).chain(probation.iter(slab)).collect()
    }
}
