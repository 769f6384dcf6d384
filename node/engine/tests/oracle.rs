//! Compares Fifo and Lru with oracles that share no code with them: every single request has the
//! same result, with entries of equal and of different sizes.

use bytes::Bytes;
use larder_engine::{
    Cache, Group, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight,
};

/// Keys with their weights in order of eviction, the next victim first.
struct Oracle {
    order: Vec<(u32, u64)>,
    capacity_bytes: u64,
    hits_renew: bool,
}

impl Oracle {
    /// Requests a key: returns true on a hit, and inserts the key on a miss.
    fn request(&mut self, key: u32, weight: u64) -> bool {
        if let Some(at) = self.order.iter().position(|&(held, _)| held == key) {
            if self.hits_renew {
                let entry = self.order.remove(at);
                self.order.push(entry);
            }
            return true;
        }
        self.order.push((key, weight));
        while self.order.iter().map(|&(_, weight)| weight).sum::<u64>() > self.capacity_bytes {
            self.order.remove(0);
        }
        false
    }
}

/// A random number between 0 and 1 from SplitMix64 (Steele, Lea, Flood 2014).
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Keys 0 to 399, uniformly distributed or approximately by Zipf's law with exponent 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 400")]
fn keys(seed: u64, zipf: bool) -> impl Iterator<Item = u32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        let at = unit(&mut state);
        if zipf { 400f64.powf(at) as u32 - 1 } else { (at * 400.0) as u32 }
    })
}

fn request(group: &Group, key: u32, value_len: usize) -> bool {
    let bytes = key.to_be_bytes();
    if group.get(&bytes, Tick::ZERO).is_some() {
        return true;
    }
    let value = Value::Present(Bytes::from(vec![0; value_len]));
    let entry = NewEntry::new(value, Tick::NEVER, Tick::NEVER, 0);
    group.insert(&bytes, &entry, None, Tick::ZERO).expect("it fits");
    false
}

/// Compares 20,000 requests. `value_len` returns the length of a key's value.
fn compare(policy: PolicyKind, zipf: bool, value_len: impl Fn(u32) -> usize) {
    let seed = std::env::var("SEED").map_or(0xCAFE, |seed| seed.parse().expect("a number"));
    let capacity_bytes = 50 * weight(4, 100);
    let options = Options { capacity_bytes, shards: Some(1), ..Options::default() };
    let cache = Cache::new(options);
    let group = GroupOptions { policy, ..GroupOptions::default() };
    let group = cache.add_group("g", group).expect("the only group");
    let hits_renew = policy == PolicyKind::Lru;
    let mut oracle = Oracle { order: Vec::new(), capacity_bytes, hits_renew };
    let (mut hits, mut misses) = (0, 0);
    for (at, key) in keys(seed, zipf).take(20_000).enumerate() {
        let held = request(&group, key, value_len(key));
        let expected = oracle.request(key, weight(4, value_len(key)));
        assert_eq!(held, expected, "{policy}, seed {seed}, request {at}, key {key}");
        if held { hits += 1 } else { misses += 1 }
    }
    assert!(hits > 1_000 && misses > 1_000, "{hits} hits and {misses} misses are too few");
    assert_eq!(group.len(), oracle.order.len());
}

#[test]
fn fifo_and_lru_agree_with_the_oracle_for_equal_sizes() {
    for policy in [PolicyKind::Fifo, PolicyKind::Lru] {
        for zipf in [false, true] {
            compare(policy, zipf, |_| 100);
        }
    }
}

#[test]
fn fifo_and_lru_agree_with_the_oracle_for_different_sizes() {
    for policy in [PolicyKind::Fifo, PolicyKind::Lru] {
        for zipf in [false, true] {
            compare(policy, zipf, |key| (key.wrapping_mul(0x9E37_79B1) >> 23) as usize);
        }
    }
}
