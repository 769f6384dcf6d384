//! One miniature cache: the real [`Store`] with a real policy, fed with the outlines of sampled
//! entries. Counts misses but not requests, and does not decide which keys are sampled.

use crate::curve::ensemble::whole;
use crate::curve::{Access, Outline, What};
use crate::entry::Entry;
use crate::policy::PolicyKind;
use crate::store::Store;
use crate::tags::TagEpochs;
use crate::tick::Tick;

/// Maximum number of steps of the timer wheel in one round.
const EXPIRED_STEPS: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) policy: PolicyKind,
    /// Its size in percent of the group's limit.
    pub(super) percent: u32,
    /// Keys whose hash is below this are in its sample.
    below: u32,
    store: Store,
    capacity_bytes: u64,
    absent_bytes: u64,
    /// Misses of this miniature, scaled from its sample to all keys.
    pub(super) misses: f64,
    /// Misses of the group, scaled from the same sample to all keys.
    pub(super) real_misses: f64,
}

impl Shadow {
    pub(super) fn new(policy: PolicyKind, percent: u32) -> Shadow {
        Shadow {
            policy,
            percent,
            below: u32::MAX,
            store: Store::new(policy, 0),
            capacity_bytes: 0,
            absent_bytes: 0,
            misses: 0.0,
            real_misses: 0.0,
        }
    }

    pub(super) fn set_policy(&mut self, policy: PolicyKind) {
        if self.policy != policy {
            self.policy = policy;
            self.store.change_policy(policy, self.capacity_bytes);
        }
    }

    /// Scales the miniature to a group with these limits and a sample of the keys below `below`.
    pub(super) fn resize(&mut self, below: u32, bytes: u64, absent_bytes: u64) {
        if below < self.below {
            self.store.remove_where(|hash| hash >= below);
        }
        self.below = below;
        let part = rate(below) * f64::from(self.percent) / 100.0;
        let [bytes, absent_bytes] = [bytes, absent_bytes].map(|all| whole(all as f64 * part));
        self.absent_bytes = absent_bytes;
        if self.capacity_bytes != bytes {
            self.capacity_bytes = bytes;
            self.store.set_capacity(bytes);
            self.make_room();
        }
    }

    pub(super) fn clear(&mut self) {
        self.store = Store::new(self.policy, self.capacity_bytes);
    }

    /// Replays one access. Keys from `counted` on are new in the sample and not counted yet.
    pub(super) fn feed(&mut self, access: &Access, tags: &TagEpochs, counted: u32) {
        let Access { now, hash, what } = *access;
        if hash >= self.below {
            return;
        }
        let counted = counted.min(self.below);
        let each = if hash < counted { 1.0 / rate(counted) } else { 0.0 };
        // Entries of a miniature have no key and are distinguished by their hash.
        let slot = self.store.find(hash, b"");
        let lives = slot.is_some_and(|slot| !self.store.is_dead(slot, now, tags));
        match what {
            What::Hit(_) | What::Miss => {
                if let Some(slot) = slot {
                    self.store.hit(slot);
                }
                if !lives {
                    self.misses += each;
                }
                if matches!(what, What::Miss) {
                    self.real_misses += each;
                }
                // A group of this size would have loaded the entry that the real group still has.
                if let What::Hit(outline) = what
                    && !lives
                {
                    self.put(hash, outline, now);
                }
            }
            What::Fill(outline) if !lives => self.put(hash, outline, now),
            What::Refresh(outline) => self.put(hash, outline, now),
            What::Fill(_) => {}
            What::Invalidate => {
                if let Some(slot) = slot {
                    self.store.remove(slot);
                }
            }
        }
    }

    fn put(&mut self, hash: u32, outline: Outline, now: Tick) {
        let entry = Entry::outlined(outline.weight, outline.is_absent, outline.life_ms, now);
        match self.store.find(hash, b"") {
            Some(slot) => drop(self.store.replace(slot, entry, None, now)),
            None => self.store.insert(hash, entry, None, now),
        }
        self.make_room();
    }

    /// Removes expired entries, as the group's sweep does.
    pub(super) fn expire(&mut self, now: Tick) {
        let mut steps = EXPIRED_STEPS;
        while self.store.expire(now, &mut steps).is_some() {}
    }

    fn make_room(&mut self) {
        while self.store.absent_bytes() > self.absent_bytes && self.store.evict_absent().is_some() {
        }
        while self.store.bytes() > self.capacity_bytes && self.store.len() > 0 {
            if self.store.evict_present().is_none() {
                self.store.evict_absent();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.store.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.store.memory_bytes()
    }
}

/// The share of all keys whose hash is below `below`.
fn rate(below: u32) -> f64 {
    f64::from(below) / f64::from(u32::MAX)
}
