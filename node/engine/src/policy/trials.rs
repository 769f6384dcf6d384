//! Owns the question "which rule would have served these requests best", answered by running
//! several at once, in miniature: a fixed part of the keys, chosen by hash, goes to small caches
//! without values, whose room is the same keys' part of the real one (Waldspurger, Saemundsson, Ahmad,
//! Park, "Cache Modeling and Optimization using Miniature Simulations", ATC 2017).
//!
//! All trials see the same requests, so luck with the sample is common to them and falls out of a
//! comparison: what tells two rules apart is only the requests that one answered and the other
//! did not. If the two were equally good, either would be as likely as a coin's side, and the
//! difference of `b` and `c` such requests would hardly ever exceed `3 * sqrt(b + c)` (McNemar,
//! "Note on the Sampling Error of the Difference Between Correlated Proportions", Psychometrika
//! 1947). Only beyond that another rule takes over: a clear case after dozens of requests, a close
//! one never.
//!
//! It never touches an entry and never decides alone: `tinylfu.rs` asks for [`Trials::best`].

mod keys;

use crate::policy::segments::{Admission, Rule, Segments};
use crate::policy::sketch::Sketch;
use crate::policy::trials::keys::Keys;
use crate::queue::Arena as _;
use crate::slab::Slot;

/// The rules that compete; a cache begins with the first. One for each kind of traffic that
/// `tinylfu.rs` names, with the shares of the papers, and a wider window for each admission.
pub(crate) const RULES: [Rule; 6] = [
    Rule { window_percent: 10, admission: Admission::Remembered },
    Rule { window_percent: 30, admission: Admission::Remembered },
    Rule { window_percent: 1, admission: Admission::Counted { margin: 1 } },
    Rule { window_percent: 10, admission: Admission::Counted { margin: 0 } },
    Rule { window_percent: 95, admission: Admission::Counted { margin: 0 } },
    // In a loop of a hundred times the room counts drown in each other: hold on to what is there.
    Rule { window_percent: 0, admission: Admission::Counted { margin: u8::MAX } },
];

/// Keys that each trial holds at most, about.
const MOST_KEYS: u64 = 512;
/// Bytes of a key in a trial: a light slot, a place in the table at two thirds load, and what is
/// remembered of it once it has gone.
const KEY_BYTES: u64 = 24 + 8 + 8;
/// Trials together may take this part of the room.
const ROOM_PART: u64 = 50;

/// How many times a sample can be halved and still have a key: 32 bits have 0 to 32 leading zeros.
const DEPTHS: usize = 33;
/// Unit of [`Trials::part`].
const WHOLE: u64 = 1 << 32;
/// The mean of it is over so many requests for sampled keys: rounds enough of any loop that a
/// cache can do something about.
const MOST_LOOKS: u64 = 4_096;

/// The best is asked for so many times while requests as many as a trial's keys pass: a loop is
/// recognised early in its second round.
const ASKED: u64 = 4;
/// What a request adds to a count: enough that fading rounds little away.
const ONE: u64 = 256;
/// Each time the best is asked for, counts lose one part in this many: they speak of requests as
/// many as sixteen times a trial's keys, or so.
const FADE: u64 = 16 * ASKED;
/// A lead of this many standard deviations is beyond doubt.
const DEVIATIONS: u64 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trials {
    trials: [Trial; RULES.len()],
    /// Requests by the set of trials that answered them (a bit for each), older ones counting less.
    answered: [u64; 1 << RULES.len()],
    capacity_bytes: u64,
    /// One key in `1 << shift` is tried.
    shift: u32,
    /// Bytes that the real cache holds, by how thin a sample may be to have the key ([`depth`]).
    held_bytes: [u64; DEPTHS],
    /// The sampled keys' part of what the real cache holds, of [`WHOLE`]: a mean over time.
    part: u64,
    /// Looks that the mean is of.
    looks: u64,
    /// Requests since the best was last asked for.
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

    /// Forgets everything but what the real cache holds.
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

    /// True if requests for the key matter here.
    #[inline]
    pub(crate) fn tries(&self, hash: u32) -> bool {
        sampled(hash, self.shift)
    }

    /// A request for a key, answered or not, with the weight of its entry. The real cache holds so
    /// many `entries` in so much `room`. True if it is time to ask for the best.
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

    /// The rule with the greatest lead beyond doubt over the present one; else the present one.
    pub(crate) fn best(&mut self, present: usize) -> usize {
        let lead = |other: usize| {
            let (more, less) = (self.only(other, present), self.only(present, other));
            let lead = more.saturating_sub(less);
            // Both sides of `lead > DEVIATIONS * sqrt(more + less)` squared, in units of `ONE`.
            let doubtful = lead * lead <= DEVIATIONS * DEVIATIONS * ONE * (more + less);
            if doubtful { 0 } else { lead }
        };
        let best = (0..RULES.len()).max_by_key(|&other| (lead(other), other == present));
        self.answered.iter_mut().for_each(|count| *count -= *count / FADE);
        best.unwrap_or(present)
    }

    /// Requests that one trial answered and another did not.
    fn only(&self, one: usize, other: usize) -> u64 {
        let sets = self.answered.iter().enumerate();
        let only = sets.filter(|&(set, _)| set >> one & 1 == 1 && set >> other & 1 == 0);
        only.map(|(_, count)| count).sum()
    }

    /// The real cache takes an entry in: before the request for it.
    pub(crate) fn enters(&mut self, hash: u32, weight: u32) {
        self.held_bytes[depth(hash)] += u64::from(weight);
    }

    /// The real cache let go of an entry.
    pub(crate) fn leaves(&mut self, hash: u32, weight: u32) {
        self.held_bytes[depth(hash)] -= u64::from(weight);
    }

    /// The trials' part of the real room: what the sampled keys have taken of it lately, which is
    /// seldom just one in `1 << shift`. A sample that has by chance a few keys too few would fit
    /// into that as a whole where the real keys do not; of what the cache holds it has had too
    /// few as well (after the adjustment of Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC
    /// Construction with SHARDS", FAST 2015). A mean, because trials that follow each moment's
    /// rise and fall keep letting go of what they should hold.
    fn part_of(&mut self, room: u64) -> u64 {
        let held: u64 = self.held_bytes.iter().sum();
        let sampled: u64 = self.held_bytes[self.shift as usize..].iter().sum();
        self.looks = (self.looks + 1).min(MOST_LOOKS);
        let now = share(WHOLE, sampled, held.max(1));
        self.part = (self.part * (self.looks - 1) + now) / self.looks;
        share(room, self.part, WHOLE)
    }

    /// Halves the sample.
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

/// How often the sample may be halved with this key still in it.
fn depth(hash: u32) -> usize {
    // Other bits than those that choose shard, table place and counters.
    hash.wrapping_mul(0x85EB_CA6B).leading_zeros() as usize
}

fn sampled(hash: u32, shift: u32) -> bool {
    depth(hash) >= shift as usize
}

/// `part` of `whole`, as a share of `of`; at most that.
fn share(of: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(of) * u128::from(part) / u128::from(whole);
    u64::try_from(share).unwrap_or(of)
}

impl Trial {
    /// True if it holds the key; if not, it does now.
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

    /// Runs keys past trials of a cache of `entries` that begins with a rule, and says which one is
    /// in force in the end. The cache that is tried for takes and leaves keys in turn.
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
                let oldest = order.pop_front().expect("it holds more than nothing");
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
    fn a_loop_calls_for_counts_and_a_margin() {
        for keys in [2_400, 4_000, 10_000] {
            let best = best_rule(0, 2_000, (0..100_000).map(|at| at % keys));
            let Admission::Counted { margin } = best.admission else { panic!("{best:?}") };
            assert!(margin > 0, "a loop of {keys}");
        }
    }

    #[test]
    fn keys_that_come_back_soon_and_never_again_are_not_held_up_by_counts() {
        // Each key is asked for twice, 700 keys apart.
        for (first, rule) in RULES.iter().enumerate() {
            let keys = (0..50_000u32).flat_map(|at| [at, at.saturating_sub(700)]);
            let best = best_rule(first, 2_000, keys);
            let recent = best.admission == Admission::Remembered || best.window_percent == 95;
            assert!(recent, "{best:?} after {rule:?}");
        }
    }

    #[test]
    fn a_difference_that_chance_explains_changes_nothing() {
        let mut trials = Trials::new(1 << 20);
        trials.answered[0b00010] = 109 * ONE;
        trials.answered[0b00001] = 90 * ONE;
        assert_eq!(trials.best(0), 0);
        trials.answered[0b00010] = 150 * ONE;
        assert_eq!(trials.best(0), 1);
    }

    #[test]
    fn a_large_cache_is_tried_on_few_keys() {
        let mut trials = Trials::new(1 << 40);
        let counts = Sketch::default();
        for key in 0..1_000_000u32 {
            let hash = key.wrapping_mul(0x9E37_79B1);
            trials.enters(hash, WEIGHT);
            trials.request(hash, WEIGHT, 1_000_000, 1 << 40, &counts);
        }
        // The room is said to be vast, so nothing was evicted: one key in 2,048 was taken in.
        let keys = trials.trials[0].keys.len() as u64;
        assert!(keys < 2 * MOST_KEYS, "{keys} keys");
        assert!(trials.overhead_bytes() < 1 << 20);
    }
}
