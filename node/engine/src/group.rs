//! One named key space: its shards, the hash that selects a shard, and the order of lock, work and
//! drop. The policy decides which entry is evicted, and the cache decides how many bytes the group
//! may hold. Start at [`Group::get`].

mod places;
mod upkeep;

use std::sync::{Arc, Weak};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cache::Core;
use crate::curve::{Curve, Outline, TooYoung, Watch};
use crate::entry::{Entry, Hit, MAX_KEY_BYTES, NewEntry};
use crate::fence::Fence;
use crate::graveyard::Graveyard;
use crate::hot::HotKey;
use crate::listener::{Ears, Listener};
use crate::options::GroupOptions;
use crate::shard::{Limits, Removed, Shard};
use crate::stats::GroupStats;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::tags::{LoadTags, TagEpochs};
use crate::tick::Tick;

pub use places::Place;

/// Why an entry was not stored. The caller may still answer with the value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// The key, one of its tags or the group was invalidated after the load started.
    #[error("the key was invalidated after the load started")]
    Fenced,
    /// The entry's weight exceeds the limit of an entry or of the group.
    #[error("the entry is too large")]
    TooLarge,
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error("the key is longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// The group was removed from its cache.
    #[error("the group was removed")]
    Closed,
    /// The key has an entry of the same or a later load, which a
    /// [`NewEntry::unless_outdated`] does not replace.
    #[error("the key has an entry of the same or a later load")]
    Outdated,
}

impl Refused {
    /// Metric label of the reason.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Refused::Fenced => "fenced",
            Refused::TooLarge => "too_large",
            Refused::KeyTooLong => "key_too_long",
            Refused::Closed => "closed",
            Refused::Outdated => "outdated",
        }
    }
}

/// One named key space of a [`Cache`](crate::Cache). Clones refer to the same group.
#[derive(Clone, Debug)]
pub struct Group(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    name: Box<str>,
    hash_seed: u64,
    max_entry_bytes: u64,
    shards: Box<[Unit]>,
    /// Epoch of the latest invalidation; see `fence.rs`.
    epoch: AtomicU64,
    tags: TagEpochs,
    ears: Ears,
    options: Mutex<GroupOptions>,
    pub(crate) watch: Watch,
    /// True if the group evicted for room since the last division of the capacity.
    pressing: AtomicBool,
    /// Room for one entry that each shard should have: some more than the largest entry since the
    /// group's share last refused one. 0 if it never did; see [`Inner::refused_for_share`].
    entry_room: AtomicU64,
    /// True while the group's limit is below its share of the capacity.
    owed: AtomicBool,
    graveyard: Arc<Graveyard>,
    core: Weak<Core>,
}

/// A shard and its lock, on two cache lines of its own because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Unit {
    shard: Mutex<Shard>,
    /// Value of `shard.bytes()` when the lock was last released after a change.
    bytes: AtomicU64,
}

impl Group {
    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Reads a key. Returns its entry if it may still be served at `now`. Counts as a use of the
    /// key. Allocates nothing and copies no bytes of the value.
    #[must_use]
    pub fn get(&self, key: &[u8], now: Tick) -> Option<Hit> {
        let (unit, hash) = self.0.place(key);
        let mut shard = unit.shard.lock();
        let hit = shard.get(hash, key, now, &self.0.tags);
        if self.0.watch.samples(hash) {
            let found = hit.as_ref().and_then(|_| shard.outline(hash, key));
            drop(shard);
            self.0.watch.read(hash, found, now);
        }
        hit
    }

    /// Like [`Group::get`], but without effect on the policy and the statistics.
    #[must_use]
    pub fn peek(&self, key: &[u8], now: Tick) -> Option<Hit> {
        let (unit, hash) = self.0.place(key);
        unit.shard.lock().peek(hash, key, now, &self.0.tags)
    }

    /// Takes a fence before a load starts. Pass it to [`Group::insert`] with the result, which is
    /// refused if the key, one of its tags or the whole group was invalidated in between. Dropping
    /// a fence costs nothing.
    #[must_use]
    pub fn begin_load(&self) -> Fence {
        Fence { epoch: self.0.epoch.load(Ordering::SeqCst) }
    }

    /// Stores an entry and replaces an older one with the same key. Key and value are copied into
    /// the cache's own memory. Under some policies the new entry itself may be evicted first.
    ///
    /// # Errors
    /// [`Refused`]. The cache is then unchanged, except that [`Refused::TooLarge`] removes an older
    /// entry of the key, because the refused value is newer.
    pub fn insert(
        &self,
        key: &[u8],
        new: &NewEntry,
        fence: Option<Fence>,
        now: Tick,
    ) -> Result<(), Refused> {
        if key.len() > MAX_KEY_BYTES {
            return Err(Refused::KeyTooLong);
        }
        let (unit, hash) = self.0.place(key);
        // Without a fence, the value counts as loaded now.
        let epoch = fence.unwrap_or_else(|| self.begin_load()).epoch;
        // Do not copy a value that will be refused.
        let fits = new.weight(key.len()) <= self.0.max_entry_bytes;
        let packed = if fits { Entry::pack(key, new, now) } else { None };
        let Some(entry) = packed else {
            return self.0.change(unit, |shard, out| {
                if self.0.tags.since(&new.tags, epoch) {
                    return shard.refuse_fenced();
                }
                shard.refuse_outdated(hash, key, new)?;
                shard.refuse(hash, key, fence, out)
            });
        };
        let tagged = !new.tags.slots().is_empty();
        let tags = tagged.then(|| LoadTags { tags: new.tags.clone(), epoch });
        let (weight, is_absent) = (u64::from(entry.weight), entry.is_absent());
        let watched = self.0.watch.samples(hash).then(|| Outline::of(&entry));
        let mut replaces = false;
        let (result, evicted) = self.0.change(unit, |shard, out| {
            let before = shard.evicted();
            replaces = watched.is_some() && shard.outline(hash, key).is_some();
            if self.0.tags.since(&new.tags, epoch) {
                return (shard.refuse_fenced(), false);
            }
            if let Err(refused) = shard.refuse_outdated(hash, key, new) {
                return (Err(refused), false);
            }
            let result = shard.insert(hash, (entry, tags), fence, now, out);
            (result, shard.evicted() > before)
        });
        if let (Some(outline), Ok(())) = (watched, result) {
            self.0.watch.stored(hash, outline, replaces, now);
        }
        if evicted {
            self.0.evicted_for_room();
        }
        match result {
            Ok(()) => self.0.stored(weight),
            Err(Refused::TooLarge) => self.0.refused_for_share(weight, is_absent),
            Err(_) => {}
        }
        // Each insert frees part of a cleared store, so growth cannot outpace reclamation.
        self.0.graveyard.bury(1);
        result
    }

    /// Removes a key and closes all earlier fences for it. Returns true if the key had an entry.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        let (unit, hash) = self.0.place(key);
        if self.0.watch.samples(hash) {
            self.0.watch.invalidated(hash);
        }
        self.0.change(unit, |shard, out| {
            // Take the epoch under the lock, so that a concurrent insert either sees the stamp or
            // is removed by this call.
            let epoch = self.0.next_epoch();
            shard.invalidate(hash, key, epoch, out)
        })
    }

    /// Invalidates all entries with a tag in O(1), and closes all earlier fences for inserts with
    /// it. The entries' memory is freed when they are evicted as cold or expire.
    pub fn invalidate_tag(&self, tag: &[u8]) {
        self.0.tags.invalidated(tag, self.0.next_epoch());
    }

    /// Removes all keys, in O(shards), and closes all earlier fences. The memory is freed by the
    /// next inserts and sweeps.
    pub fn clear(&self) {
        self.0.clear(false);
    }

    /// Number of entries, including expired ones that were not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.stats().entries).unwrap_or(usize::MAX)
    }

    /// True if the group has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes currently charged to the group.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Counters and gauges, collected from one shard after the other.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        let mut stats = GroupStats::default();
        self.0.shards.iter().for_each(|unit| stats += unit.shard.lock().stats());
        stats
    }

    /// The current options.
    #[must_use]
    pub fn options(&self) -> GroupOptions {
        self.0.options.lock().clone()
    }

    /// Changes the options. Entries are kept, even if the policy changes. One shard after the other
    /// is locked while its entries are relinked.
    pub fn update(&self, options: GroupOptions) {
        let policy = options.policy;
        *self.0.options.lock() = options;
        for unit in &self.0.shards {
            self.0.change(unit, |shard, _| shard.set_policy(policy));
        }
        if let Some(core) = self.0.core.upgrade() {
            core.divide();
        }
    }

    /// Calls `visit` with up to `max` present entries that may be served, in approximate order of
    /// value: shard by shard, each with its share of `max`, in the policy's order.
    pub fn hottest_first(&self, now: Tick, max: usize, mut visit: impl FnMut(&[u8], Hit)) {
        let each = max.div_ceil(self.0.shards.len());
        let mut left = max;
        for unit in &self.0.shards {
            let found = unit.shard.lock().hottest_first(now, &self.0.tags, each.min(left));
            left -= found.len();
            found.into_iter().for_each(|(key, hit)| visit(&key, hit));
        }
    }

    /// Up to `max` of the most frequently read keys with their rates, hottest first. Estimated from
    /// one read in 64, over about the last ten seconds.
    #[must_use]
    pub fn hot_keys(&self, now: Tick, max: usize) -> Vec<HotKey> {
        let mut keys = Vec::new();
        self.0.shards.iter().for_each(|unit| keys.extend(unit.shard.lock().hot_keys(now)));
        keys.sort_by(|a, b| b.reads_per_second.total_cmp(&a.reads_per_second));
        keys.truncate(max);
        keys
    }

    /// The measured hit ratio, and the predicted ones for other memory sizes and policies. Computed
    /// from a sample of the keys, by [`Cache::sweep`](crate::Cache::sweep) and by this call; see
    /// `curve.rs` for the cost.
    ///
    /// # Errors
    /// [`TooYoung`] until enough reads were sampled. A change of policy restarts the count.
    pub fn curve(&self, now: Tick) -> Result<Curve, TooYoung> {
        self.0.predict(now);
        self.0.watch.curve()
    }

    /// Calls `listener` for every entry that is removed from now on. Replaces an earlier listener.
    pub fn set_listener(&self, listener: Arc<dyn Listener>) {
        self.0.ears.set(listener);
    }

    /// Checks all invariants, for tests and fuzzing.
    ///
    /// # Panics
    /// If an invariant is violated, which is a bug in the engine.
    pub fn validate(&self) {
        for unit in &self.0.shards {
            let shard = unit.shard.lock();
            shard.validate();
            let published = unit.bytes.load(Ordering::Relaxed);
            assert_eq!(published, shard.bytes(), "the published bytes are those of the shard");
        }
    }
}

impl Inner {
    pub(crate) fn new(name: &str, options: GroupOptions, core: &Arc<Core>) -> Inner {
        let limits = Limits { bytes: 0, absent_bytes: 0, entry_bytes: 0 };
        let unit = || Unit {
            shard: Mutex::new(Shard::new(options.policy, limits)),
            bytes: AtomicU64::new(0),
        };
        Inner {
            name: name.into(),
            hash_seed: core.options.hash_seed,
            max_entry_bytes: core.options.max_entry_bytes,
            shards: std::iter::repeat_with(unit).take(core.options.shard_count()).collect(),
            epoch: AtomicU64::new(0),
            tags: TagEpochs::default(),
            ears: Ears::default(),
            watch: Watch::new(options.policy, core.options.curves),
            options: Mutex::new(options),
            pressing: AtomicBool::new(false),
            entry_room: AtomicU64::new(0),
            owed: AtomicBool::new(false),
            graveyard: Arc::clone(&core.graveyard),
            core: Arc::downgrade(core),
        }
    }

    /// The shard of a key, and the half of the hash that is used within the shard.
    fn place(&self, key: &[u8]) -> (&Unit, u32) {
        let hash = xxh3_64_with_seed(key, self.hash_seed);
        // The number of shards is a power of two.
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        #[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
        let inside = hash as u32;
        (&self.shards[index], inside)
    }

    /// Changes a shard under its lock, then drops the removed entries without the lock.
    fn change<R>(&self, unit: &Unit, work: impl FnOnce(&mut Shard, &mut Removed) -> R) -> R {
        let mut removed = Removed::new();
        let mut shard = unit.shard.lock();
        let result = work(&mut shard, &mut removed);
        unit.bytes.store(shard.bytes(), Ordering::Relaxed);
        drop(shard);
        if !removed.is_empty() {
            let ear = self.ears.get();
            removed.iter().for_each(|(cause, entry)| ear.notify(entry, *cause));
        }
        result
    }

    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn clear(&self, close: bool) {
        let epoch = self.next_epoch();
        for unit in &self.shards {
            let store = self.change(unit, |shard, _| shard.clear(epoch, close));
            self.graveyard.add(store, self.ears.get());
        }
        self.watch.cleared();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|unit| unit.bytes.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
