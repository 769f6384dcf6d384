//! The caches whose speed and memory are compared, behind a common interface. All have the same
//! capacity in bytes, in terms of the engine's [`weight`] if the library supports weights.
//!
//! A write does the same work as in a member: the value arrives as a view into a foreign buffer and
//! is copied. The engine gets the view and copies it; for the others, the copy is made here. As in
//! a member, the engine's entries also expire and are stored with a fence; the others support
//! neither.

use ahash::RandomState;
use bytes::Bytes;
use larder_engine::{
    Cache, Group, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight,
};
use parking_lot::Mutex;

/// All caches; the engine's default policy comes first.
pub(crate) const NAMES: &[&str] = &[
    "larder TinyLfu",
    "larder S3Fifo",
    "larder Lru",
    QUICK_CACHE,
    "quick_cache (byte keys)",
    "foyer S3-FIFO",
    "foyer LFU",
    "foyer LRU",
    "TinyUFO",
    "moka",
    "Mutex + lru",
];

/// The reference for the engine's targets.
pub(crate) const QUICK_CACHE: &str = "quick_cache";
/// Length of a key: the engine's keys are bytes, the others' are numbers.
pub(crate) const KEY_BYTES: usize = size_of::<u64>();

/// The time of every call, and the life of an entry from then on.
const NOW: Tick = Tick::from_millis(1_000_000);
const FRESH_MS: u64 = 60_000;
const KEEP_MS: u64 = 90_000;

/// A cache in the comparison.
pub(crate) trait Contender: Sync {
    /// Looks up a key and accesses the value. Returns true on a hit.
    fn read(&self, key: u64) -> bool;
    /// Stores a copy of the value.
    fn write(&self, key: u64, value: &Bytes);
    /// Number of entries after all deferred work is done. All keys ever written are below `keys`.
    fn entries(&self, keys: u64) -> u64;
    /// Bytes that the cache charges for its entries, if it reports them.
    fn charged(&self) -> Option<u64> {
        None
    }
}

/// Creates an empty cache with a capacity of `budget` bytes, for values of about `value_bytes`.
pub(crate) fn build(name: &str, budget: u64, value_bytes: usize) -> Box<dyn Contender> {
    let slots = slots(budget, value_bytes);
    let room = usize::try_from(budget).expect("64 bits");
    if let Some(policy) = name.strip_prefix("larder ") {
        return Box::new(Larder::new(policy.parse().expect("a policy's name"), budget));
    }
    match name {
        QUICK_CACHE => Box::new(QuickCache::with_weighter(slots, budget, Weigher)),
        "quick_cache (byte keys)" => {
            Box::new(QuickCacheOfBytes::with_weighter(slots, budget, Weigher))
        }
        "foyer S3-FIFO" => foyer(room, foyer_memory::S3FifoConfig::default().into()),
        "foyer LFU" => foyer(room, foyer_memory::LfuConfig::default().into()),
        "foyer LRU" => foyer(room, foyer_memory::LruConfig::default().into()),
        "TinyUFO" => Box::new(tinyufo::TinyUfo::<u64, Bytes>::new(room / UFO_UNIT, slots)),
        "moka" => {
            let weigher = |_: &u64, value: &Bytes| {
                u32::try_from(weight(KEY_BYTES, value.len())).expect("values are small")
            };
            let builder = moka::sync::Cache::builder().max_capacity(budget).weigher(weigher);
            Box::new(builder.build_with_hasher(RandomState::new()))
        }
        "Mutex + lru" => {
            let slots = std::num::NonZero::new(slots).expect("at least one");
            Box::new(Mutex::new(lru::LruCache::<u64, Bytes, _>::with_hasher(
                slots,
                RandomState::new(),
            )))
        }
        other => unreachable!("{other} is not in NAMES"),
    }
}

/// Number of entries with values of this size that fit `budget`.
pub(crate) fn slots(budget: u64, value_bytes: usize) -> usize {
    let slots = budget / weight(KEY_BYTES, value_bytes);
    usize::try_from(slots).expect("64 bits").max(1)
}

/// Accesses a value as a member does: its length and one byte.
fn touch(value: &[u8]) -> bool {
    std::hint::black_box(value.first());
    true
}

struct Larder {
    cache: Cache,
    group: Group,
}

impl Larder {
    fn new(policy: PolicyKind, capacity_bytes: u64) -> Larder {
        let cache = Cache::new(Options { capacity_bytes, ..Options::default() });
        let options = GroupOptions { policy, ..GroupOptions::default() };
        let group = cache.add_group("bench", options).expect("the only group");
        Larder { cache, group }
    }
}

impl Contender for Larder {
    fn read(&self, key: u64) -> bool {
        let hit = self.group.get(&key.to_be_bytes(), NOW);
        hit.is_some_and(|hit| hit.bytes().is_some_and(touch))
    }

    fn write(&self, key: u64, value: &Bytes) {
        let (fresh, keep) = (NOW.after_millis(FRESH_MS), NOW.after_millis(KEEP_MS));
        let fence = self.group.begin_load();
        let entry = NewEntry::new(Value::Present(value.clone()), fresh, keep, 1);
        // Ignore a refusal: the cache may refuse entries, which its hit ratio reflects.
        let _ = self.group.insert(&key.to_be_bytes(), &entry, Some(fence), NOW);
    }

    fn entries(&self, _: u64) -> u64 {
        self.group.stats().entries
    }

    fn charged(&self) -> Option<u64> {
        Some(self.cache.bytes())
    }
}

#[derive(Clone)]
struct Weigher;

impl<K> quick_cache::Weighter<K, Bytes> for Weigher {
    fn weight(&self, _: &K, value: &Bytes) -> u64 {
        weight(KEY_BYTES, value.len())
    }
}

type QuickCache = quick_cache::sync::Cache<u64, Bytes, Weigher>;

impl Contender for QuickCache {
    fn read(&self, key: u64) -> bool {
        self.get(&key).is_some_and(|value| touch(&value))
    }

    fn write(&self, key: u64, value: &Bytes) {
        self.insert(key, Bytes::copy_from_slice(value));
    }

    fn entries(&self, _: u64) -> u64 {
        self.len() as u64
    }
}

/// quick_cache with arbitrary byte strings as keys, as a member needs them.
type QuickCacheOfBytes = quick_cache::sync::Cache<Box<[u8]>, Bytes, Weigher>;

impl Contender for QuickCacheOfBytes {
    fn read(&self, key: u64) -> bool {
        self.get(&key.to_be_bytes()[..]).is_some_and(|value| touch(&value))
    }

    fn write(&self, key: u64, value: &Bytes) {
        self.insert(key.to_be_bytes().into(), Bytes::copy_from_slice(value));
    }

    fn entries(&self, _: u64) -> u64 {
        self.len() as u64
    }
}

type Foyer = foyer_memory::Cache<u64, Bytes, RandomState>;

fn foyer(room: usize, eviction: foyer_memory::EvictionConfig) -> Box<dyn Contender> {
    let cache: Foyer = foyer_memory::CacheBuilder::new(room)
        .with_eviction_config(eviction)
        .with_hash_builder(RandomState::new())
        .with_weighter(|_: &u64, value: &Bytes| {
            usize::try_from(weight(KEY_BYTES, value.len())).expect("64 bits")
        })
        .build();
    Box::new(cache)
}

impl Contender for Foyer {
    fn read(&self, key: u64) -> bool {
        self.get(&key).is_some_and(|entry| touch(entry.value()))
    }

    fn write(&self, key: u64, value: &Bytes) {
        self.insert(key, Bytes::copy_from_slice(value));
    }

    fn entries(&self, _: u64) -> u64 {
        Foyer::entries(self) as u64
    }
}

/// Bytes per unit of weight, because TinyUFO's weights have 16 bits.
const UFO_UNIT: usize = 64;

impl Contender for tinyufo::TinyUfo<u64, Bytes> {
    fn read(&self, key: u64) -> bool {
        self.get(&key).is_some_and(|value| touch(&value))
    }

    fn write(&self, key: u64, value: &Bytes) {
        let units = weight(KEY_BYTES, value.len()).div_ceil(UFO_UNIT as u64);
        let units = u16::try_from(units).expect("values are at most a megabyte");
        self.put(key, Bytes::copy_from_slice(value), units);
    }

    /// TinyUFO does not report its number of entries, so look up every key.
    fn entries(&self, keys: u64) -> u64 {
        (0..keys).filter(|key| self.get(key).is_some()).count() as u64
    }
}

type Moka = moka::sync::Cache<u64, Bytes, RandomState>;

impl Contender for Moka {
    fn read(&self, key: u64) -> bool {
        self.get(&key).is_some_and(|value| touch(&value))
    }

    fn write(&self, key: u64, value: &Bytes) {
        self.insert(key, Bytes::copy_from_slice(value));
    }

    fn entries(&self, _: u64) -> u64 {
        self.run_pending_tasks();
        self.entry_count()
    }
}

type MutexLru = Mutex<lru::LruCache<u64, Bytes, RandomState>>;

impl Contender for MutexLru {
    fn read(&self, key: u64) -> bool {
        // Clone under the lock, as every shared cache must, and access the value after it.
        let value = self.lock().get(&key).cloned();
        value.is_some_and(|value| touch(&value))
    }

    fn write(&self, key: u64, value: &Bytes) {
        let value = Bytes::copy_from_slice(value);
        let gone = self.lock().push(key, value);
        drop(gone);
    }

    fn entries(&self, _: u64) -> u64 {
        self.lock().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_stores_values_and_respects_its_capacity() {
        let value = Bytes::from(vec![7; 100]);
        for &name in NAMES {
            let cache = build(name, 4 << 20, value.len());
            cache.write(1, &value);
            cache.write(2, &value);
            assert!(cache.read(1) && cache.read(2) && !cache.read(3), "{name}");
            for key in 0..40_000 {
                cache.write(key, &value);
            }
            let (held, room) = (cache.entries(40_000), slots(4 << 20, value.len()) as u64);
            assert!(held > room * 3 / 4 && held <= room * 21 / 20, "{name}: {held} of {room}");
        }
    }
}
