//! TinyLfu on loops, whose optimum is known. On a loop slightly larger than the cache, a policy
//! that favours recently used entries has no hits at all. The optimum keeps as many entries as fit.

use bytes::Bytes;
use larder_engine::{Cache, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight};

/// Hits per thousand requests of TinyLfu and of the optimum, which keeps all entries but one in
/// each round after the first.
fn per_mille(slots: u32, keys: u32, value_len: usize, hash_seed: u64) -> (u32, u32) {
    const ROUNDS: u32 = 20;
    let capacity_bytes = u64::from(slots) * weight(4, value_len);
    let options = Options { capacity_bytes, shards: Some(1), hash_seed, ..Options::default() };
    let options = Options { curves: false, ..options };
    let cache = Cache::new(options);
    let options = GroupOptions { policy: PolicyKind::TinyLfu, ..GroupOptions::default() };
    let group = cache.add_group("loop", options).expect("the only group");
    let value = Value::Present(Bytes::from(vec![0; value_len]));
    let entry = NewEntry::new(value, Tick::NEVER, Tick::NEVER, 0);
    let mut hits = 0;
    for key in (0..ROUNDS).flat_map(|_| 0..keys) {
        let key = key.to_be_bytes();
        if group.get(&key, Tick::ZERO).is_some() {
            hits += 1;
        } else {
            group.insert(&key, &entry, None, Tick::ZERO).expect("it fits");
        }
    }
    let best = (ROUNDS - 1) * (slots - 1);
    (hits * 1_000 / (ROUNDS * keys), best * 1_000 / (ROUNDS * keys))
}

#[test]
fn a_loop_larger_than_the_cache_has_90_percent_of_the_optimal_hits() {
    for (slots, seeds) in [(500, 3), (5_000, 1)] {
        for percent in [50, 80, 90, 95] {
            for seed in 0..seeds {
                let keys = slots * 100 / percent;
                let (hits, best) = per_mille(slots, keys, 1_024, seed);
                let at = format!("{slots} slots, {percent} % of the loop, seed {seed}");
                assert!(hits * 100 >= best * 90, "{at}: {hits} of {best} per mille");
            }
        }
    }
}
