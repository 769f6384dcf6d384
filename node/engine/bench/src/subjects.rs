//! The caches whose hit ratios are compared, each as a function that requests a key.

use bytes::Bytes;
use larder_engine::{Cache, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight};

/// The engine's policies, then other libraries.
pub(crate) const NAMES: &[&str] = &[
    "Lru",
    "Lfu",
    "Fifo",
    "Lru2",
    "Arc",
    "S3Fifo",
    "Sieve",
    "TinyLfu",
    "moka",
    "quick_cache",
    "TinyUFO",
    "foyer S3-FIFO",
    "foyer LFU",
    "foyer LRU",
];

/// The engine charges ghosts, sketches and trials to the same budget as entries, unlike the other
/// libraries. With values of this size, they are one or two percent of the budget.
const VALUE_BYTES: usize = 4 << 10;

/// Requests a key: returns true on a hit, and inserts the key on a miss.
pub(crate) type Subject = Box<dyn FnMut(u32) -> bool>;

/// True for another library.
pub(crate) fn is_rival(name: &str) -> bool {
    NAMES.contains(&name) && name.parse::<PolicyKind>().is_err()
}

/// Creates an empty cache with this many slots.
pub(crate) fn build(name: &str, slots: usize) -> Subject {
    if let Ok(policy) = name.parse::<PolicyKind>() {
        return larder(policy, slots);
    }
    let foyer = |config: foyer_memory::EvictionConfig| -> Subject {
        let builder = foyer_memory::CacheBuilder::new(slots).with_shards(1);
        let cache: foyer_memory::Cache<u32, ()> = builder.with_eviction_config(config).build();
        Box::new(move |key| {
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, ());
            }
            hit
        })
    };
    match name {
        "moka" => {
            let cache = moka::sync::Cache::new(slots as u64);
            let (mut since, every) = (0, (slots / 64).clamp(1, 16));
            Box::new(move |key| {
                let hit = cache.get(&key).is_some();
                if !hit {
                    cache.insert(key, ());
                }
                // moka evicts in deferred tasks. Run them often enough that it never holds
                // noticeably more than its capacity.
                since += 1;
                if since % every == 0 {
                    cache.run_pending_tasks();
                }
                hit
            })
        }
        "quick_cache" => {
            let mut cache = quick_cache::unsync::Cache::new(slots);
            Box::new(move |key| {
                let hit = cache.get(&key).is_some();
                if !hit {
                    cache.insert(key, ());
                }
                hit
            })
        }
        "TinyUFO" => {
            let cache = tinyufo::TinyUfo::new(slots, slots);
            Box::new(move |key| {
                let hit = cache.get(&key).is_some();
                if !hit {
                    cache.put(key, (), 1);
                }
                hit
            })
        }
        "foyer S3-FIFO" => foyer(foyer_memory::S3FifoConfig::default().into()),
        "foyer LFU" => foyer(foyer_memory::LfuConfig::default().into()),
        "foyer LRU" => foyer(foyer_memory::LruConfig::default().into()),
        other => unreachable!("{other} is not in NAMES"),
    }
}

fn larder(policy: PolicyKind, slots: usize) -> Subject {
    let capacity_bytes = slots as u64 * weight(4, VALUE_BYTES);
    let options = Options { capacity_bytes, shards: Some(1), ..Options::default() };
    let cache = Cache::new(options);
    let group = GroupOptions { policy, ..GroupOptions::default() };
    let group = cache.add_group("bench", group).expect("the only group");
    let now = Tick::ZERO;
    let value = Value::Present(Bytes::from(vec![0; VALUE_BYTES]));
    let entry = NewEntry::new(value, Tick::NEVER, Tick::NEVER, 0);
    Box::new(move |key| {
        let _cache_lives_as_long = &cache;
        let hit = group.get(&key.to_be_bytes(), now).is_some();
        if !hit {
            group.insert(&key.to_be_bytes(), &entry, None, now).expect("it fits");
        }
        hit
    })
}
