//! Determines which admission rule would have served the recent requests best, by running all rules
//! in miniature: a fixed share of the keys, selected by hash, is requested in small caches without
//! values, whose capacity is the same share of the real one (Waldspurger, Saemundsson, Ahmad, Park,
//! "Cache Modeling and Optimization using Miniature Simulations", ATC 2017).
//!
//! All trials see the same requests, so errors of the sample affect all of them and cancel out in a
//! comparison. Two rules differ only in the requests that hit in one trial and missed in the other.
//! If both were equally good, each such request would favour either with probability one half, and
//! the difference of their numbers `b` and `c` would rarely exceed `3 * sqrt(b + c)` (McNemar,
//! "Note on the Sampling Error of the Difference Between Correlated Proportions", Psychometrika
//! 1947). Another rule takes over only beyond that: after dozens of requests in a clear case, never
//! in a close one.
//!
//! This module never accesses an entry; `tinylfu.rs` calls [`Trials::best`] and changes the rule.

mod keys;

use crate::policy::segments::{Admission, Rule, Segments};
use crate::policy::sketch::Sketch;
use crate::policy::trials::keys::Keys;
use crate::queue::Arena as _;
use crate::slab::Slot;

/// The competing rules. A cache starts with the first. There is one for each kind of workload
/// listed in `tinylfu.rs`, with the shares of the papers, and one with a wider window for each
/// admission.
pub(crate) const RULES: [Rule; 6] = [
    Rule { window_percent: 10, admission: Admission::Remembered },
    Rule { window_percent: 30, admission: Admission::Remembered },
    Rule { window_percent: 1, admission: Admission::Counted { margin: 1 } },
    Rule { window_percent: 10, admission: Admission::Counted { margin: 0 } },
    Rule { window_percent: 95, admission: Admission::Counted { margin: 0 } },
    // In a loop of a hundred times the capacity, counts are only noise: never replace an entry.
    Rule { window_percent: 0, admission: Admission::Counted { margin: u8::MAX } },
];

/// Approximate maximum number of keys per trial.
const MOST_KEYS: u64 = 512;
/// Bytes of a key in a trial: its slot, its bucket in the table at a load of two thirds, and its
/// word in the table of evicted keys.
const KEY_BYTES: u64 = 24 + 8 + 8;
/// All trials together may use one part in this many of the capacity.
const ROOM_PART: u64 = 50;

/// Number of possible values of [`depth`]: 32 bits have 0 to 32 leading zeros.
const DEPTHS: usize = 33;
/// Unit of [`Trials::part`].
const WHOLE: u64 = 1 << 32;
/// Number of requests for sampled keys over which it is averaged: enough rounds of any loop for
/// which a cache can be effective.
const MOST_LOOKS: u64 = 4_096;

/// The best rule is determined this many times during as many requests as a trial has keys, so that
/// a loop is detected early in its second round.
const ASKED: u64 = 4;
/// Increment of a count per request: large enough that the decay loses little to rounding.
const ONE: u64 = 256;
/// Each time the best rule is determined, counts lose one part in this many. They cover about as
/// many requests as sixteen times the number of a trial's keys.
const FADE: u64 = 16 * ASKED;
/// A lead of this many standard deviations is significant.
const DEVIATIONS: u64 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trials {
    trials: [Trial; RULES.len()],
    /// Requests by the set of trials in which they hit (one bit per trial), older ones counting
    /// less.
    answered: [u64; 1 << RULES.len()],
    capacity_bytes: u64,
    /// One key in `1 << shift` is sampled.
    shift: u32,
    /// Bytes that the real cache holds, by the [`depth`] of their keys.
    held_bytes: [u64; DEPTHS],
    /// Share of the sampled keys in the bytes of the real cache, in units of [`WHOLE`], averaged
    /// over time.
    part: u64,
    /// Number of samples in the average.
    looks: u64,
    /// Requests since the best rule was last determined.
    requests: u64,
}

#[derive(Debug)]
struct Trial {
    segments: Segments,
    keys: Keys,
}

impl Trials {
    pub(crate) fn new(capacity_bytes: u64) -> Trials {
        let trials =
            RULES.map(|rule| Trial { segments: Segments::new(rule), keys: Keys::default() });
        let answered = [0; 1 << RULES.len()];
        let mut made = Trials {
            trials,
            answered,
            capacity_bytes,
            shift: 0,
            held_bytes: [0; DEPTHS],
            part: WHOLE,
            looks: 0,
            requests: 0,
        };
        made.set_capacity(capacity_bytes);
        made
    }

    /// Resets everything except the bytes of the real cache.
    pub(crate) fn start_anew(&mut self, capacity_bytes: u64) {
        let held_bytes = self.held_bytes;
        *self = Trials { held_bytes, ..Trials::new(capacity_bytes) };
    }

    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.trials.iter_mut().for_each(|trial| trial.segments.set_room(bytes >> self.shift));
    }

    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.trials.iter().map(|trial| trial.keys.places() as u64 * KEY_BYTES).sum()
    }

    /// True if the key is sampled.
    #[inline]
    pub(crate) fn tries(&self, hash: u32) -> bool {
        sampled(hash, self.shift)
    }

    /// Records a request for a key, whether it hit or not, with the weight of its entry. The real
    /// cache has `entries` entries and a capacity of `room` bytes. Returns true if it is time to
    /// call [`Trials::best`].
    pub(crate) fn request(
        &mut self,
        hash: u32,
        weight: u32,
        entries: usize,
        room: u64,
        counts: &Sketch,
    ) -> bool {
        if !self.tries(hash) {
            return false;
        }
        let most = self.capacity_bytes / ROOM_PART / (KEY_BYTES * RULES.len() as u64);
        while entries as u64 >> self.shift > most.min(MOST_KEYS) && self.shift < 31 {
            self.thin_out();
        }
        let room = self.part_of(room);
        let mut set = 0;
        for (index, trial) in self.trials.iter_mut().enumerate() {
            set |= usize::from(trial.request(hash, weight, room, counts)) << index;
        }
        self.answered[set] += ONE;
        self.requests += 1;
        let due = self.requests >= (entries as u64 >> self.shift).max(128) / ASKED;
        if due {
            self.requests = 0;
        }
        due
    }

    /// The rule with the largest significant lead over the current one, or else the current one.
    pub(crate) fn best(&mut self, present: usize) -> usize {
        let lead = |other: usize| {
            let (more, less) = (self.only(other, present), self.only(present, other));
            let lead = more.saturating_sub(less);
            // `lead > DEVIATIONS * sqrt(more + less)`, with both sides squared and in units of
            // `ONE`.
            let doubtful = lead * lead <= DEVIATIONS * DEVIATIONS * ONE * (more + less);
            if doubtful { 0 } else { lead }
        };
        let best = (0..RULES.len()).max_by_key(|&other| (lead(other), other == present));
        self.answered.iter_mut().for_each(|count| *count -= *count / FADE);
        best.unwrap_or(present)
    }

    /// Requests that hit in trial `one` but not in trial `other`.
    fn only(&self, one: usize, other: usize) -> u64 {
        let sets = self.answered.iter().enumerate();
        let only = sets.filter(|&(set, _)| set >> one & 1 == 1 && set >> other & 1 == 0);
        only.map(|(_, count)| count).sum()
    }

    /// Records an insert into the real cache. Call it before recording the request.
    pub(crate) fn enters(&mut self, hash: u32, weight: u32) {
        self.held_bytes[depth(hash)] += u64::from(weight);
    }

    /// Records a removal from the real cache.
    pub(crate) fn leaves(&mut self, hash: u32, weight: u32) {
        self.held_bytes[depth(hash)] -= u64::from(weight);
    }

    /// Capacity of the trials: the share of the real capacity that the sampled keys have recently
    /// used, which is rarely exactly one in `1 << shift`.
    ///
    /// If the sample happened to have too few keys, all of them would fit into the exact share
    /// although not all real keys fit into the real cache. Their share of the cache's bytes is too
    /// small as well, which corrects the error (after the adjustment of Waldspurger, Park,
    /// Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015). The share is
    /// averaged, because trials that follow every fluctuation evict keys that they should keep.
    fn part_of(&mut self, room: u64) -> u64 {
        let held: u64 = self.held_bytes.iter().sum();
        let sampled: u64 = self.held_bytes[self.shift as usize..].iter().sum();
        self.looks = (self.looks + 1).min(MOST_LOOKS);
        let now = share(WHOLE, sampled, held.max(1));
        self.part = (self.part * (self.looks - 1) + now) / self.looks;
        share(room, self.part, WHOLE)
    }

    /// Halves the sampling rate.
    fn thin_out(&mut self) {
        self.shift += 1;
        self.looks = 0;
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

/// How many times the sampling rate can be halved before the key drops out of the sample.
fn depth(hash: u32) -> usize {
    // Use other bits than those that select shard, bucket and counters.
    hash.wrapping_mul(0x85EB_CA6B).leading_zeros() as usize
}

fn sampled(hash: u32, shift: u32) -> bool {
    depth(hash) >= shift as usize
}

/// `of * part / whole` without overflow, at most `of`.
fn share(of: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(of) * u128::from(part) / u128::from(whole);
    u64::try_from(share).unwrap_or(of)
}

impl Trial {
    /// Requests a key: returns true on a hit, and inserts the key on a miss.
    fn request(&mut self, hash: u32, weight: u32, room: u64, counts: &Sketch) -> bool {
        if let Some(slot) = self.keys.find(hash) {
            self.segments.hit(&mut self.keys, slot);
            return true;
        }
        let slot = self.keys.insert(hash, weight);
        self.segments.ensure(self.keys.len());
        self.segments.insert(&mut self.keys, slot);
        while self.segments.bytes() > room {
            let count = |keys: &Keys, slot| counts.count(keys.hash(slot));
            let Some(victim) = self.segments.evict(&mut self.keys, count) else { break };
            self.keys.remove(victim);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use super::*;

    const WEIGHT: u32 = 1_000;

    /// Requests `keys` in the trials of a cache that has `entries` entries and starts with the rule
    /// `first`, and returns the rule at the end. The real cache is a simple FIFO.
    fn best_rule(first: usize, entries: u32, keys: impl Iterator<Item = u32>) -> Rule {
        let room = u64::from(entries) * u64::from(WEIGHT);
        let mut trials = Trials::new(room);
        let mut counts = Sketch::default();
        counts.ensure(entries as usize);
        let mut best = first;
        let (mut held, mut order) = (HashSet::new(), VecDeque::new());
        for key in keys {
            let hash = key.wrapping_mul(0x9E37_79B1);
            if held.insert(hash) {
                order.push_back(hash);
                trials.enters(hash, WEIGHT);
            }
            if order.len() > entries as usize {
                let oldest = order.pop_front().expect("the queue is not empty");
                held.remove(&oldest);
                trials.leaves(oldest, WEIGHT);
            }
            counts.add(hash, 1);
            if trials.request(hash, WEIGHT, entries as usize, room, &counts) {
                best = trials.best(best);
            }
        }
        RULES[best]
    }

    #[test]
    fn a_loop_selects_counted_admission_with_a_margin() {
        for keys in [2_400, 4_000, 10_000] {
            let best = best_rule(0, 2_000, (0..100_000).map(|at| at % keys));
            let Admission::Counted { margin } = best.admission else { panic!("{best:?}") };
            assert!(margin > 0, "a loop of {keys}");
        }
    }

    #[test]
    fn keys_that_return_soon_and_never_again_select_a_rule_without_a_barrier() {
        // Each key is requested twice, 700 keys apart.
        for (first, rule) in RULES.iter().enumerate() {
            let keys = (0..50_000u32).flat_map(|at| [at, at.saturating_sub(700)]);
            let best = best_rule(first, 2_000, keys);
            let recent = best.admission == Admission::Remembered || best.window_percent == 95;
            assert!(recent, "{best:?} after {rule:?}");
        }
    }

    #[test]
    fn an_insignificant_lead_does_not_change_the_rule() {
        let mut trials = Trials::new(1 << 20);
        trials.answered[0b00010] = 109 * ONE;
        trials.answered[0b00001] = 90 * ONE;
        assert_eq!(trials.best(0), 0);
        trials.answered[0b00010] = 150 * ONE;
        assert_eq!(trials.best(0), 1);
    }

    #[test]
    fn trials_of_a_large_cache_have_few_keys() {
        let mut trials = Trials::new(1 << 40);
        let counts = Sketch::default();
        for key in 0..1_000_000u32 {
            let hash = key.wrapping_mul(0x9E37_79B1);
            trials.enters(hash, WEIGHT);
            trials.request(hash, WEIGHT, 1_000_000, 1 << 40, &counts);
        }
        // The capacity is so large that nothing was evicted: one key in 2,048 was inserted.
        let keys = trials.trials[0].keys.len() as u64;
        assert!(keys < 2 * MOST_KEYS, "{keys} keys");
        assert!(trials.overhead_bytes() < 1 << 20);
    }
}
