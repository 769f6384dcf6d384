//! One lock unit of a group: a [`Store`] with its limits, fences and counters. Never acquires a
//! lock and never drops an entry: removed entries are moved to the caller's [`Removed`], which
//! outlives the lock.

use crate::curve::Outline;
use crate::entry::{Entry, Hit, NewEntry};
use crate::fence::{Fence, Fences};
use crate::group::Refused;
use crate::hot::{HotKey, HotKeys, SAMPLED};
use crate::policy::PolicyKind;
use crate::slab::Slot;
use crate::stats::{GroupStats, Swept};
use crate::store::{Read, Store};
use crate::tags::{LoadTags, TagEpochs};
use crate::tick::Tick;

/// Why an entry was removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// For room.
    Evicted,
    /// At the end of its life.
    Expired,
    /// By a newer entry with the same key.
    Replaced,
    /// By an invalidation of its key or by clearing the group.
    Invalidated,
}

/// Removed entries, collected under the lock and dropped after it is released.
pub(crate) type Removed = Vec<(Cause, Entry)>;

/// Limits of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Above this, entries are evicted.
    pub(crate) bytes: u64,
    /// Above this, absent entries are evicted.
    pub(crate) absent_bytes: u64,
    /// Heavier entries are refused. Derived from the group's share and not from its current limit,
    /// so that an entry is not refused while its group waits for capacity.
    pub(crate) entry_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shard {
    store: Store,
    policy: PolicyKind,
    limits: Limits,
    fences: Fences,
    /// True if the group was removed: a late insert must not store anything.
    closed: bool,
    counts: GroupStats,
    hot: HotKeys,
    /// Reads left until `hot` counts one.
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

    /// The entry of a key, even if it may not be served any more.
    pub(crate) fn outline(&self, hash: u32, key: &[u8]) -> Option<Outline> {
        self.store.find(hash, key).map(|slot| Outline::of(self.store.entry(slot)))
    }

    /// Like `get`, but without effect on the policy and the counters.
    pub(crate) fn peek(&self, hash: u32, key: &[u8], now: Tick, tags: &TagEpochs) -> Option<Hit> {
        let slot = self.store.find(hash, key)?;
        (!self.store.is_dead(slot, now, tags)).then(|| self.store.hit_of(slot))
    }

    pub(crate) fn insert(
        &mut self,
        hash: u32,
        (entry, tags): (Entry, Option<LoadTags>),
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
        // After a reduction of the limits, the shard exceeds them. Each insert then evicts twice
        // the bytes that it adds, so that no single caller pays for the whole reduction.
        let bytes = self.limits.bytes.max(before.0.saturating_sub(weight));
        let absent_bytes = self.limits.absent_bytes.max(before.1.saturating_sub(weight));
        self.evict_to(bytes, absent_bytes, usize::MAX, out);
        Ok(())
    }

    /// Refuses an entry for its size. Removes the key's stored entry, which the refused one
    /// outdates, unless the refused one is outdated itself according to its fence.
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

    /// Refuses an entry that must not replace the key's later one.
    pub(crate) fn refuse_outdated(
        &self,
        hash: u32,
        key: &[u8],
        new: &NewEntry,
    ) -> Result<(), Refused> {
        let held = || self.store.find(hash, key).map(|slot| self.store.hit_of(slot).version);
        let is_outdated = new.unless_outdated && held().is_some_and(|held| held >= new.version);
        if is_outdated { Err(Refused::Outdated) } else { Ok(()) }
    }

    /// Refuses an entry that was invalidated after its load started.
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

    /// Evicts up to `max` entries until the shard holds at most this many bytes. Absent entries are
    /// evicted for their quota; for the shard's limit, present entries are evicted first.
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
            out.push((Cause::Evicted, victim.expect("a shard above its limit has entries")));
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

    /// Empties the shard in O(1): replaces the store by an empty one and returns the old store,
    /// which is freed later in steps.
    pub(crate) fn clear(&mut self, epoch: u64, close: bool) -> Store {
        self.fences.cleared(epoch);
        self.closed |= close;
        self.counts.cleared += self.store.len() as u64;
        std::mem::replace(&mut self.store, Store::new(self.policy, self.limits.bytes))
    }

    /// Performs one bounded step of housekeeping.
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

    /// Evicts at most `max` entries while the shard exceeds its limits.
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

    /// Up to `max` present entries that may be served, the most valuable first.
    pub(crate) fn hottest_first(
        &self,
        now: Tick,
        tags: &TagEpochs,
        max: usize,
    ) -> Vec<(Vec<u8>, Hit)> {
        let slots = self.store.hottest_first().into_iter();
        let living = slots.filter(|&slot| !self.store.is_dead(slot, now, tags)).take(max);
        living
            .map(|slot| (self.store.entry(slot).key().to_vec(), self.store.hit_of(slot)))
            .collect()
    }

    /// The slots of all entries: the present ones in the policy's order, then the absent ones.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.store.slots()
    }

    /// The key of an occupied slot.
    pub(crate) fn key_at(&self, slot: Slot) -> Option<&[u8]> {
        self.store.is_occupied(slot).then(|| self.store.entry(slot).key())
    }

    /// The entry of a slot if it may be served.
    pub(crate) fn entry_at(
        &self,
        slot: Slot,
        now: Tick,
        tags: &TagEpochs,
    ) -> Option<(Vec<u8>, Hit)> {
        let key = self.key_at(slot)?;
        (!self.store.is_dead(slot, now, tags)).then(|| (key.to_vec(), self.store.hit_of(slot)))
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
        // The entries behind the ghosts weigh at most twice the limit, and a ghost takes 16 bytes
        // for an entry of 128 bytes or more. As many ghost slots may be empty, and a few always
        // are. A sketch is rebuilt before it takes a quarter of the limit.
        let remembered = self.store.overhead_bytes();
        let bound = self.limits.bytes / 2 + (16 << 10);
        assert!(remembered <= bound, "the policy uses {remembered} bytes with {:?}", self.limits);
    }
}
