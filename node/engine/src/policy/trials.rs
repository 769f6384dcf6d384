//! Owns the question "which window would have served these requests best", answered by running
//! several at once, in miniature: a fixed part of the keys, chosen by hash, goes to small caches
//! without values, whose room is the same part of the real one (Waldspurger, Saemundsson, Ahmad,
//! Park, "Cache Modeling and Optimization using Miniature Simulations", ATC 2017). Unlike climbing
//! along the measured hit ratio, it sees past a valley between two good sizes, and it knows after
//! hundreds of requests instead of tens of thousands.
//!
//! It never touches an entry and never decides alone: `tinylfu.rs` asks for [`Trials::best`].

use hashbrown::HashTable;

use crate::policy::segments::Segments;
use crate::policy::sketch::Sketch;
use crate::queue::Arena;
use crate::slab::{NIL, Slot};

/// Windows tried, as percentages of the room: from nearly pure frequency to nearly pure recency.
pub(crate) const WINDOWS: [u64; 5] = [1, 10, 30, 60, 95];

/// Keys that each trial holds at most, about.
const MOST_KEYS: u64 = 512;
/// Bytes of a key in a trial: a light slot, and a place in the table at two thirds load.
const KEY_BYTES: u64 = 24 + 8;
/// Trials together may take this part of the room.
const ROOM_PART: u64 = 50;

/// What a hit adds to a score: enough that fading by a sixteenth rounds little away.
const HIT: u64 = 64;
/// Each time the best is asked for, scores lose one part in this many: they speak of the last
/// sixteen fillings of a trial or so.
const FADE: u64 = 16;
/// The best must lead by one part in this many, or noise would move the window to and fro.
const MARGIN: u64 = 100;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trials {
    trials: [Trial; WINDOWS.len()],
    capacity_bytes: u64,
    /// One key in `1 << shift` is tried.
    shift: u32,
    /// Requests since the scores were last lowered.
    requests: u64,
}

#[derive(Debug, Default)]
struct Trial {
    segments: Segments,
    keys: Keys,
    /// Hits, older ones counting less.
    score: u64,
}

impl Trials {
    pub(crate) fn new(capacity_bytes: u64) -> Trials {
        let trials = std::array::from_fn(|_| Trial::default());
        let mut made = Trials { trials, capacity_bytes, shift: 0, requests: 0 };
        made.set_capacity(capacity_bytes);
        made
    }

    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        for (trial, percent) in self.trials.iter_mut().zip(WINDOWS) {
            trial.segments.set_room(bytes >> self.shift, percent);
        }
    }

    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.trials.iter().map(|trial| trial.keys.slots.len() as u64 * KEY_BYTES).sum()
    }

    /// A request for a key, answered or not, with the weight of its entry. `entries` are held by
    /// the real cache. True if it is time to ask for the best.
    pub(crate) fn request(
        &mut self,
        hash: u32,
        weight: u32,
        entries: usize,
        counts: &Sketch,
    ) -> bool {
        if !sampled(hash, self.shift) {
            return false;
        }
        let most =
            (self.capacity_bytes / ROOM_PART / (KEY_BYTES * WINDOWS.len() as u64)).min(MOST_KEYS);
        while entries as u64 >> self.shift > most && self.shift < 31 {
            self.thin_out();
        }
        for trial in &mut self.trials {
            trial.request(hash, weight, self.capacity_bytes >> self.shift, counts);
        }
        self.requests += 1;
        // Asked for as often as the trials have been filled, however small they are.
        let filled = (entries as u64 >> self.shift).max(32);
        let due = self.requests >= filled;
        if due {
            self.requests = 0;
        }
        due
    }

    /// The trial with the highest score; the present one if none is better by a margin.
    pub(crate) fn best(&mut self, present: usize) -> usize {
        let scores = || self.trials.iter().map(|trial| trial.score);
        let (best, top) =
            scores().enumerate().max_by_key(|&(_, score)| score).unwrap_or((present, 0));
        let now = self.trials[present].score;
        self.trials.iter_mut().for_each(|trial| trial.score -= trial.score / FADE);
        if top > now + now / MARGIN { best } else { present }
    }

    /// Halves the sample.
    fn thin_out(&mut self) {
        self.shift += 1;
        self.set_capacity(self.capacity_bytes);
        for trial in &mut self.trials {
            let gone: Vec<Slot> = trial.keys.slots_where(|hash| !sampled(hash, self.shift));
            for slot in gone {
                trial.segments.remove(&mut trial.keys, slot);
                trial.keys.remove(slot);
            }
        }
    }
}

fn sampled(hash: u32, shift: u32) -> bool {
    // Other bits than those that choose shard, table place and counters.
    hash.wrapping_mul(0x85EB_CA6B).leading_zeros() >= shift
}

impl Trial {
    fn request(&mut self, hash: u32, weight: u32, capacity_bytes: u64, counts: &Sketch) {
        if let Some(slot) = self.keys.find(hash) {
            self.score += HIT;
            self.segments.hit(&mut self.keys, slot);
            return;
        }
        let slot = self.keys.insert(hash, weight);
        self.segments.insert(&mut self.keys, slot);
        while self.segments.bytes() > capacity_bytes {
            let Some(victim) = self.segments.evict(&mut self.keys, counts) else { return };
            self.keys.remove(victim);
        }
    }
}

/// Keys of one trial: light slots, found by hash.
#[derive(Debug, Default)]
struct Keys {
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
    fn find(&self, hash: u32) -> Option<Slot> {
        self.table.find(spread(hash), |&slot| self.slots[slot as usize].hash == hash).copied()
    }

    fn insert(&mut self, hash: u32, weight: u32) -> Slot {
        let light = Light { prev: NIL, next: NIL, hash, weight, mark: 0 };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = light;
            slot
        } else {
            self.slots.push(light);
            Slot::try_from(self.slots.len() - 1).expect("a trial holds a few hundred keys")
        };
        let slots = &self.slots;
        self.table.insert_unique(spread(hash), slot, |&slot| spread(slots[slot as usize].hash));
        slot
    }

    fn remove(&mut self, slot: Slot) {
        let hash = spread(self.slots[slot as usize].hash);
        if let Ok(found) = self.table.find_entry(hash, |&other| other == slot) {
            found.remove();
            self.free.push(slot);
        }
    }

    fn slots_where(&self, wanted: impl Fn(u32) -> bool) -> Vec<Slot> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: u32 = 1_000;

    /// Runs keys past trials of a cache of `entries`, and says which window is best in the end.
    fn best_window(entries: u32, keys: impl Iterator<Item = u32>) -> u64 {
        let mut trials = Trials::new(u64::from(entries) * u64::from(WEIGHT));
        let mut counts = Sketch::default();
        counts.ensure(entries as usize);
        let mut best = 0;
        for key in keys {
            let hash = key.wrapping_mul(0x9E37_79B1);
            counts.increment(hash);
            if trials.request(hash, WEIGHT, entries as usize, &counts) {
                best = trials.best(best);
            }
        }
        WINDOWS[best]
    }

    #[test]
    fn a_loop_calls_for_a_small_window() {
        assert_eq!(best_window(2_000, (0..100_000).map(|at| at % 2_400)), 1);
    }

    #[test]
    fn keys_that_come_back_soon_and_never_again_call_for_a_large_window() {
        // Each key is asked for twice, 700 requests apart.
        let keys = (0..200_000u32).flat_map(|at| [at, at.saturating_sub(700)]);
        assert!(best_window(2_000, keys) >= 60);
    }

    #[test]
    fn a_large_cache_is_tried_on_few_keys() {
        let mut trials = Trials::new(1 << 40);
        let counts = Sketch::default();
        for key in 0..1_000_000u32 {
            trials.request(key.wrapping_mul(0x9E37_79B1), WEIGHT, 1_000_000, &counts);
        }
        let keys = trials.trials[0].keys.table.len() as u64;
        assert!(keys < 2 * MOST_KEYS, "{keys} keys");
        assert!(trials.overhead_bytes() < 1 << 20);
    }
}
