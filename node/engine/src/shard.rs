//! Owns one lock unit of a group: a [`Store`], its limits, its fences and its counters, and the
//! rules that join them. It never takes a lock and never drops an entry: what leaves goes into the
//! caller's [`Removed`], which outlives the lock.

use crate::curve::Outline;
use crate::entry::{Entry, Hit};
use crate::fence::{Fence, Fences};
use crate::group::Refused;
use crate::hot::{HotKey, HotKeys, SAMPLED};
use crate::policy::PolicyKind;
use crate::stats::{GroupStats, Swept};
use crate::store::{Read, Store};
use crate::tags::{Places, TagEpochs};
use crate::tick::Tick;

/// Why an entry left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// To make room.
    Evicted,
    /// Its life was over.
    Expired,
    /// Another entry with its key took its place.
    Replaced,
    /// Somebody asked for it: by key or by clearing the group.
    Invalidated,
}

/// Entries on their way out, collected under the lock and dropped after it.
pub(crate) type Removed = Vec<(Cause, Entry)>;

/// How much of a group one shard may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Above this, entries are evicted.
    pub(crate) bytes: u64,
    /// Above this, absent ones are.
    pub(crate) absent_bytes: u64,
    /// Heavier entries are refused. From the group's due, not from its present limit: what waits
    /// for room is not too large.
    pub(crate) entry_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shard {
    store: Store,
    policy: PolicyKind,
    limits: Limits,
    fences: Fences,
    /// Set when the group was removed: a late fill must not revive it.
    closed: bool,
    counts: GroupStats,
    hot: HotKeys,
    /// Reads left until one is counted by `hot`.
    unsampled: u64,
}

impl Shard {
    pub(crate) fn new(policy: PolicyKind, limits: Limits) -> Shard {
        Shard {
            store: Store::new(policy, limits.bytes),
            policy,
            limits,
            fences: Fences::default(),
            closed: false,
            counts: GroupStats::default(),
            hot: HotKeys::default(),
            unsampled: SAMPLED,
        }
    }

    #[inline]
    pub(crate) fn get(
        &mut self,
        hash: u32,
        key: &[u8],
        now: Tick,
        tags: &TagEpochs,
    ) -> Option<Hit> {
        self.unsampled -= 1;
        if self.unsampled == 0 {
            self.unsampled = SAMPLED;
            self.hot.record(hash, key, now);
        }
        match self.store.read(hash, key, now, tags) {
            Read::Answer(hit) => {
                self.counts.hits += 1;
                self.counts.absent_hits += u64::from(hit.is_absent());
                self.counts.stale_hits += u64::from(now > hit.fresh_until);
                return Some(hit);
            }
            Read::Dead => self.counts.expired_misses += 1,
            Read::Unknown => {}
        }
        self.counts.misses += 1;
        None
    }

    /// What there is of a key, dead or alive.
    pub(crate) fn outline(&self, hash: u32, key: &[u8]) -> Option<Outline> {
        self.store.find(hash, key).map(|slot| Outline::of(self.store.entry(slot)))
    }

    /// Like `get`, but leaves no trace in policy and counters.
    pub(crate) fn peek(&self, hash: u32, key: &[u8], now: Tick, tags: &TagEpochs) -> Option<Hit> {
        let slot = self.store.find(hash, key)?;
        (!self.store.is_dead(slot, now, tags)).then(|| self.store.entry(slot).hit())
    }

    pub(crate) fn insert(
        &mut self,
        hash: u32,
        (entry, tags): (Entry, Option<Places>),
        fence: Option<Fence>,
        now: Tick,
        out: &mut Removed,
    ) -> Result<(), Refused> {
        self.judge(hash, fence)?;
        let weight = u64::from(entry.weight);
        let absent_limit = self.limits.absent_bytes.min(self.limits.entry_bytes);
        let limit = if entry.is_absent() { absent_limit } else { self.limits.entry_bytes };
        if weight > limit {
            return self.refuse(hash, entry.key(), fence, out);
        }
        let before = (self.store.bytes(), self.store.absent_bytes());
        match self.store.find(hash, entry.key()) {
            Some(slot) => {
                self.counts.replaced += 1;
                out.push((Cause::Replaced, self.store.replace(slot, entry, tags, now)));
            }
            None => self.store.insert(hash, entry, tags, now),
        }
        self.counts.insertions += 1;
        // After a cut of the limits the shard is over them: then each insert gives back twice what
        // it takes, so that no single caller pays for the whole cut.
        let bytes = self.limits.bytes.max(before.0.saturating_sub(weight));
        let absent_bytes = self.limits.absent_bytes.max(before.1.saturating_sub(weight));
        self.evict_to(bytes, absent_bytes, usize::MAX, out);
        Ok(())
    }

    /// Refuses an entry for its size. It still says that the one stored before is outdated,
    /// unless its fence says that it is outdated itself.
    pub(crate) fn refuse(
        &mut self,
        hash: u32,
        key: &[u8],
        fence: Option<Fence>,
        out: &mut Removed,
    ) -> Result<(), Refused> {
        self.judge(hash, fence)?;
        self.counts.refused_too_large += 1;
        if let Some(slot) = self.store.find(hash, key) {
            self.counts.replaced += 1;
            out.push((Cause::Replaced, self.store.remove(slot)));
        }
        Err(Refused::TooLarge)
    }

    /// A fill whose tag was invalidated after its load began.
    pub(crate) fn refuse_fenced(&mut self) -> Result<(), Refused> {
        self.counts.refused_fenced += 1;
        Err(Refused::Fenced)
    }

    fn judge(&mut self, hash: u32, fence: Option<Fence>) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if fence.is_some_and(|fence| !self.fences.open(hash, fence)) {
            return self.refuse_fenced();
        }
        Ok(())
    }

    /// Makes room until at most these many bytes are held. Absent entries go for their quota;
    /// for the shard's room present ones go first.
    fn evict_to(&mut self, bytes: u64, absent: u64, max: usize, out: &mut Removed) -> usize {
        let mut evicted = 0;
        while evicted < max {
            let victim = if self.store.absent_bytes() > absent {
                self.counts.evicted_absent += 1;
                self.store.evict_absent()
            } else if self.store.bytes() > bytes && self.store.len() > 0 {
                self.counts.evicted += 1;
                self.store.evict_present().or_else(|| self.store.evict_absent())
            } else {
                break;
            };
            evicted += 1;
            out.push((Cause::Evicted, victim.expect("bytes above a limit are of entries")));
        }
        evicted
    }

    pub(crate) fn invalidate(
        &mut self,
        hash: u32,
        key: &[u8],
        epoch: u64,
        out: &mut Removed,
    ) -> bool {
        self.fences.invalidated(hash, epoch);
        let Some(slot) = self.store.find(hash, key) else { return false };
        self.counts.invalidated += 1;
        out.push((Cause::Invalidated, self.store.remove(slot)));
        true
    }

    /// Empties the shard in O(1): the whole store is exchanged for an empty one, and the old one
    /// handed back to be taken apart later, in steps.
    pub(crate) fn clear(&mut self, epoch: u64, close: bool) -> Store {
        self.fences.cleared(epoch);
        self.closed |= close;
        self.counts.cleared += self.store.len() as u64;
        std::mem::replace(&mut self.store, Store::new(self.policy, self.limits.bytes))
    }

    /// One bounded step of housekeeping.
    pub(crate) fn sweep(&mut self, now: Tick, max: usize, out: &mut Removed) -> Swept {
        let mut steps = max;
        let mut expired = 0;
        while let Some(entry) = self.store.expire(now, &mut steps) {
            expired += 1;
            out.push((Cause::Expired, entry));
        }
        self.counts.expired += expired as u64;
        let evicted = self.shrink(steps, out);
        let more = !self.store.expiry_caught_up(now) || self.over_limit();
        Swept { expired, evicted, buried: 0, more }
    }

    /// Evicts at most `max` entries while over the limits.
    pub(crate) fn shrink(&mut self, max: usize, out: &mut Removed) -> usize {
        self.evict_to(self.limits.bytes, self.limits.absent_bytes, max, out)
    }

    fn over_limit(&self) -> bool {
        let room = self.store.bytes() > self.limits.bytes && self.store.len() > 0;
        room || self.store.absent_bytes() > self.limits.absent_bytes
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        if self.limits.bytes != limits.bytes {
            self.store.set_capacity(limits.bytes);
        }
        self.limits = limits;
    }

    pub(crate) fn set_policy(&mut self, policy: PolicyKind) {
        if self.policy != policy {
            self.policy = policy;
            self.store.change_policy(policy, self.limits.bytes);
        }
    }

    /// Up to `max` present entries that may be answered, those worth most first.
    pub(crate) fn hottest_first(
        &self,
        now: Tick,
        tags: &TagEpochs,
        max: usize,
    ) -> Vec<(Vec<u8>, Hit)> {
        let slots = self.store.hottest_first().into_iter();
        let living = slots.filter(|&slot| !self.store.is_dead(slot, now, tags)).take(max);
        living
            .map(|slot| {
                let entry = self.store.entry(slot);
                (entry.key().to_vec(), entry.hit())
            })
            .collect()
    }

    pub(crate) fn hot_keys(&self, now: Tick) -> impl Iterator<Item = HotKey> {
        self.hot.rates(now)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.counts.evicted
    }

    pub(crate) fn stats(&self) -> GroupStats {
        GroupStats {
            bytes: self.store.bytes(),
            absent_bytes: self.store.absent_bytes(),
            entries: self.store.len() as u64,
            limit_bytes: self.limits.bytes,
            ..self.counts
        }
    }

    pub(crate) fn validate(&self) {
        self.store.validate();
        // Ghosts weigh at most twice the room, 16 bytes for each of 128 or more; as many graves may
        // be empty, and a few always are. A sketch is made anew before it takes a quarter.
        let remembered = self.store.overhead_bytes();
        let bound = self.limits.bytes / 2 + (16 << 10);
        assert!(remembered <= bound, "{remembered} bytes of memory beside {:?}", self.limits);
    }
}
