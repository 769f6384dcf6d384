//! The caches whose speed and memory are compared, each behind the same two calls. All have room
//! for the same bytes, counted by the engine's own [`weight`] wherever a library can count.
//!
//! What a write does is what a member must: the value arrives as a view into somebody else's
//! buffer and is copied to be kept. The engine gets the view and copies; for the others the copy
//! is made here. The engine's entries also have a life and are stored under a fence, as a member
//! stores them; the others have neither.

use ahash::RandomState;
use bytes::Bytes;
use larder_engine::{
    Cache, Group, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight,
};
use parking_lot::Mutex;

/// All of them; the engine's default policy first.
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

/// The one that the bars are set by.
pub(crate) const QUICK_CACHE: &str = "quick_cache";
/// Bytes of a key: of the engine's, which takes any bytes, and of the others', which take a number.
pub(crate) const KEY_BYTES: usize = size_of::<u64>();

/// "Now" of every call, and how long an entry lives from then.
const NOW: Tick = Tick::from_millis(1_000_000);
const FRESH_MS: u64 = 60_000;
const KEEP_MS: u64 = 90_000;

/// One cache.
pub(crate) trait Contender: Sync {
    /// Looks up, and touches the value that is found.
    fn read(&self, key: u64) -> bool;
    /// Stores a copy of the value.
    fn write(&self, key: u64, value: &Bytes);
    /// Entries held, when everything put off is done; all keys ever written are below `keys`.
    fn entries(&self, keys: u64) -> u64;
    /// Bytes that it believes to hold, if it says.
    fn charged(&self) -> Option<u64> {
        None
    }
}

/// A fresh one with room for `budget` bytes of entries with values of about `value_bytes`.
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

/// Entries of this size for which there is room.
pub(crate) fn slots(budget: u64, value_bytes: usize) -> usize {
    let slots = budget / weight(KEY_BYTES, value_bytes);
    usize::try_from(slots).expect("64 bits").max(1)
}

/// As a member would: the length, and a byte of it.
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
        // A refusal is the cache's own decision, and shows in its hit ratio.
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

/// The same library asked for what a member asks: keys that are any bytes.
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

/// It weighs in 16 bits, so bytes go in steps.
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

    /// It does not say how many it holds, so every key is asked for.
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
        // Cloned under the lock, as every shared cache must; looked at after it.
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
    fn every_contender_holds_what_was_written_and_keeps_to_its_room() {
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
