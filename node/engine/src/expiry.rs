//! The timer wheel of one shard: finds the entries that expire next, at a cost per expired entry
//! and not per resident one. It only finds memory to free and does not affect reads, which check
//! `keep_until` themselves.
//!
//! Four levels of 64 buckets (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP
//! 1987). A bucket of level 0 spans 256 ms and each level is 64 times coarser. The top level spans
//! 49 days, the longest life of an entry. An entry moves down at most three times.

use crate::slab::{NIL, Slab, Slot};
use crate::tick::Tick;

const LEVELS: u32 = 4;
const BUCKETS_LOG2: u32 = 6;
const BUCKETS: u32 = 1 << BUCKETS_LOG2;
/// Grains of 256 ms. Reads are exact; this only delays when memory is freed.
const GRAIN_LOG2: u32 = 8;

/// `timer_prev` of a bucket's first slot is this plus the bucket's index, so the slot can be
/// unlinked without a search. Slot numbers are lower: a shard never holds 2^32 - 512 entries.
const FIRST: u32 = u32::MAX - 512;

/// The timer wheel of one shard. It contains the slots of all entries that expire.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[Slot; (LEVELS * BUCKETS) as usize]>,
    /// Grain (256 ms) up to which all buckets have been emptied.
    reached: u64,
    started: bool,
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel { heads: Box::new([NIL; (LEVELS * BUCKETS) as usize]), reached: 0, started: false }
    }
}

impl Wheel {
    /// Inserts a slot that is in no bucket.
    pub(crate) fn insert(&mut self, slab: &mut Slab, slot: Slot, now: Tick) {
        let end = slab[slot].entry.keep_until();
        if end == Tick::NEVER {
            return;
        }
        if !self.started {
            self.reached = grain(now);
            self.started = true;
        }
        let bucket = self.bucket(grain(end));
        let head = self.heads[bucket as usize];
        let node = &mut slab[slot];
        node.timer_prev = FIRST + bucket;
        node.timer_next = head;
        if head != NIL {
            slab[head].timer_prev = slot;
        }
        self.heads[bucket as usize] = slot;
    }

    /// Removes a slot. Does nothing if it is in no bucket.
    pub(crate) fn remove(&mut self, slab: &mut Slab, slot: Slot) {
        let node = &mut slab[slot];
        let (prev, next) = (node.timer_prev, node.timer_next);
        node.timer_prev = NIL;
        node.timer_next = NIL;
        if prev == NIL {
            return;
        }
        if next != NIL {
            slab[next].timer_prev = prev;
        }
        if prev >= FIRST {
            self.heads[(prev - FIRST) as usize] = next;
        } else {
            slab[prev].timer_next = next;
        }
    }

    /// Removes and returns the next slot whose entry has expired at `now`; `None` once the wheel
    /// has caught up. Each slot that is moved and each bucket that is passed decrements `steps`;
    /// `pop` stops at 0.
    pub(crate) fn pop(&mut self, slab: &mut Slab, now: Tick, steps: &mut usize) -> Option<Slot> {
        // Do not process the bucket of `now` before its end: it may hold entries that have not
        // expired.
        while self.started && self.reached < grain(now) && *steps > 0 {
            let bucket = turn(self.reached, 0) as usize;
            *steps -= 1;
            let slot = self.heads[bucket];
            if slot != NIL {
                self.remove(slab, slot);
                if slab[slot].entry.is_over(now) {
                    return Some(slot);
                }
                self.insert(slab, slot, now);
            } else {
                self.reached += 1;
                self.cascade(slab, now);
            }
        }
        None
    }

    /// True if `pop` at `now` has no bucket left to process.
    pub(crate) fn caught_up(&self, now: Tick) -> bool {
        !self.started || self.reached >= grain(now)
    }

    /// Checks every bucket and returns the total number of slots in them.
    ///
    /// # Panics
    /// If links are inconsistent, or an entry that never expires is in a bucket.
    pub(crate) fn validate(&self, slab: &Slab) -> usize {
        let mut found = 0;
        for (bucket, &head) in (0..).zip(self.heads.iter()) {
            let (mut prev, mut slot) = (FIRST + bucket, head);
            while slot != NIL {
                let node = &slab[slot];
                assert_eq!(node.timer_prev, prev, "timer links are consistent in both directions");
                assert!(node.entry.keep_until() != Tick::NEVER, "the wheel has no endless entries");
                found += 1;
                (prev, slot) = (slot, node.timer_next);
            }
        }
        found
    }

    /// When a new bucket of a coarser level is reached, distributes its slots over the finer
    /// levels.
    fn cascade(&mut self, slab: &mut Slab, now: Tick) {
        for level in 1..LEVELS {
            let span = BUCKETS_LOG2 * level;
            if !self.reached.is_multiple_of(1 << span) {
                return;
            }
            let bucket = level * BUCKETS + turn(self.reached, span);
            let mut slot = std::mem::replace(&mut self.heads[bucket as usize], NIL);
            while slot != NIL {
                let next = slab[slot].timer_next;
                slab[slot].timer_prev = NIL;
                slab[slot].timer_next = NIL;
                self.insert(slab, slot, now);
                slot = next;
            }
        }
    }

    /// The finest bucket that is not processed before `end`.
    fn bucket(&self, end: u64) -> u32 {
        let end = end.max(self.reached);
        for level in 0..LEVELS {
            let span = BUCKETS_LOG2 * level;
            if (end >> span) - (self.reached >> span) < u64::from(BUCKETS) {
                return level * BUCKETS + turn(end, span);
            }
        }
        // Beyond the wheel's span: the bucket of the top level that is processed last.
        let top = BUCKETS_LOG2 * (LEVELS - 1);
        let last = self.reached + (u64::from(BUCKETS - 1) << top);
        (LEVELS - 1) * BUCKETS + turn(last, top)
    }
}

/// Index of a grain's bucket within a level whose buckets span `1 << span` grains.
fn turn(grain: u64, span: u32) -> u32 {
    u32::try_from((grain >> span) % u64::from(BUCKETS)).expect("below the number of buckets")
}

fn grain(at: Tick) -> u64 {
    at.as_millis() >> GRAIN_LOG2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::{NewEntry, Value};

    fn put(slab: &mut Slab, id: u32, now: Tick, life_ms: u64) -> Slot {
        let until = now.after_millis(life_ms);
        let new = NewEntry::new(Value::Absent, until, until, 0);
        let entry = Entry::pack(&id.to_be_bytes(), &new, now).expect("a short key");
        slab.insert(id, entry)
    }

    fn drain(wheel: &mut Wheel, slab: &mut Slab, now: Tick) -> usize {
        let mut steps = usize::MAX;
        std::iter::from_fn(|| wheel.pop(slab, now, &mut steps)).count()
    }

    #[test]
    fn every_entry_expires_within_one_grain_and_never_early() {
        for life in [0, 1, 255, 256, 5_000, 16_384, 60_000, 1_048_575, 9_000_000, 70_000_000] {
            for start in [0, 77, 1_000_000, 123_456_789] {
                let (mut wheel, mut slab) = (Wheel::default(), Slab::default());
                let start = Tick::from_millis(start);
                let slot = put(&mut slab, 1, start, life);
                wheel.insert(&mut slab, slot, start);
                let end = start.after_millis(life);
                assert_eq!(drain(&mut wheel, &mut slab, end), 0, "{life} from {start:?}");
                let later = end.after_millis(256);
                assert_eq!(drain(&mut wheel, &mut slab, later), 1, "{life} from {start:?}");
            }
        }
    }

    #[test]
    fn a_removed_slot_is_not_returned() {
        let (mut wheel, mut slab) = (Wheel::default(), Slab::default());
        let slots: Vec<Slot> = (0..3).map(|id| put(&mut slab, id, Tick::ZERO, 1_000)).collect();
        slots.iter().for_each(|&slot| wheel.insert(&mut slab, slot, Tick::ZERO));
        wheel.remove(&mut slab, slots[1]);
        wheel.remove(&mut slab, slots[2]);
        wheel.remove(&mut slab, slots[2]);
        assert_eq!(drain(&mut wheel, &mut slab, Tick::from_millis(9_000)), 1);
    }

    #[test]
    fn a_sweep_after_a_long_pause_finds_all_expired_entries() {
        let (mut wheel, mut slab) = (Wheel::default(), Slab::default());
        for id in 0..1_000 {
            let slot = put(&mut slab, id, Tick::ZERO, u64::from(id) * 37_000);
            wheel.insert(&mut slab, slot, Tick::ZERO);
        }
        let day = Tick::from_millis(86_400_000);
        assert_eq!(drain(&mut wheel, &mut slab, day), 1_000);
        assert!(wheel.caught_up(day));
    }

    #[test]
    fn steps_bound_the_work_of_one_call() {
        let (mut wheel, mut slab) = (Wheel::default(), Slab::default());
        for id in 0..100 {
            let slot = put(&mut slab, id, Tick::ZERO, 10);
            wheel.insert(&mut slab, slot, Tick::ZERO);
        }
        let mut steps = 10;
        let now = Tick::from_millis(1_000);
        let found = std::iter::from_fn(|| wheel.pop(&mut slab, now, &mut steps)).count();
        assert!(found <= 10 && found > 0);
        assert!(!wheel.caught_up(now));
    }
}
