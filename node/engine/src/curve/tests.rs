//! Compares predictions with real caches of every size and policy that serve the same reads.

use bytes::Bytes;

use super::*;
use crate::{Cache, Group, GroupOptions, NewEntry, Options, Value, weight};

const VALUE_BYTES: usize = 1_000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Draws ranks with a probability proportional to 1 / rank^skew.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: u32, skew: f64) -> Zipf {
        let mut sum = 0.0;
        let add = |rank: u32| {
            sum += f64::from(rank).powf(-skew);
            sum
        };
        Zipf((1..=count).map(add).collect())
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let at = random.unit() * self.0.last().expect("at least one rank");
        u32::try_from(self.0.partition_point(|&sum| sum < at)).expect("few ranks")
    }
}

/// A cache with one group and room for a number of entries of [`VALUE_BYTES`].
struct Real {
    cache: Cache,
    group: Group,
    life_ms: u64,
    now_us: u64,
    hits: u32,
    reads: u32,
}

impl Real {
    fn new(policy: PolicyKind, entries: u64) -> Real {
        let capacity_bytes = entries * weight(4, VALUE_BYTES);
        let options = Options { capacity_bytes, shards: Some(1), ..Options::default() };
        let cache = Cache::new(options);
        let options = GroupOptions { policy, ..GroupOptions::default() };
        let group = cache.add_group("g", options).expect("the only one");
        Real { cache, group, life_ms: 1 << 40, now_us: 0, hits: 0, reads: 0 }
    }

    fn now(&self) -> Tick {
        Tick::from_millis(self.now_us / 1_000)
    }

    /// Advances the time by 50 µs and reads a key, with an insert on a miss and a sweep every 250
    /// ms.
    fn read(&mut self, key: u32) {
        self.now_us += 50;
        self.reads += 1;
        let now = self.now();
        if self.group.get(&key.to_be_bytes(), now).is_some() {
            self.hits += 1;
        } else {
            let value = Value::Present(Bytes::from_static(&[0; VALUE_BYTES]));
            let end = now.after_millis(self.life_ms);
            let entry = NewEntry::new(value, end, end, 0);
            self.group.insert(&key.to_be_bytes(), &entry, None, now).expect("it fits");
        }
        if self.now_us.is_multiple_of(250_000) {
            self.cache.sweep(now, 4_096);
        }
    }

    fn run(mut self, keys: &[u32]) -> Real {
        keys.iter().for_each(|&key| self.read(key));
        self
    }

    fn hit_ratio(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.reads)
    }

    fn curve(&self) -> Curve {
        self.group.curve(self.now()).expect("enough reads")
    }
}

const READS: u32 = 100_000;
const ENTRIES: u64 = 3_000;

fn zipf(skew: f64) -> Vec<u32> {
    let (mut random, zipf) = (Random(7), Zipf::new(60_000, skew));
    (0..READS).map(|_| zipf.draw(&mut random)).collect()
}

/// Predicted minus real hit ratio in percentage points, for every size and then for every policy.
fn errors(policy: PolicyKind, keys: &[u32]) -> Vec<(String, f64)> {
    let curve = Real::new(policy, ENTRIES).run(keys).curve();
    let error = |policy, percent, predicted| {
        let entries = ENTRIES * u64::from(percent) / 100;
        let truth = Real::new(policy, entries).run(keys).hit_ratio();
        (format!("{policy} at {percent} %"), (predicted - truth) * 100.0)
    };
    let sizes = CURVE_PERCENTS.iter().zip(curve.sizes);
    let sizes = sizes.map(|(&percent, predicted)| error(policy, percent, predicted));
    let rivals = curve.policies.iter().filter(|(rival, _)| *rival != policy);
    let rivals = rivals.map(|&(rival, predicted)| error(rival, 100, predicted));
    sizes.chain(rivals).collect()
}

/// Requires a mean error of at most two percentage points over all sizes and policies. A single one
/// may be larger: TinyLfu adjusts its window by trials, which have few keys in a miniature.
fn check(policy: PolicyKind, keys: &[u32]) {
    let all = errors(policy, keys);
    let mean = all.iter().map(|(_, error)| error.abs()).sum::<f64>() / all.len() as f64;
    assert!(mean <= 2.0, "mean error of {mean:.2} points: {all:.1?}");
    assert!(all.iter().all(|(_, error)| error.abs() <= 6.0), "{all:.1?}");
}

#[test]
fn predictions_for_skewed_popularity_are_within_two_points() {
    check(PolicyKind::Lru, &zipf(0.99));
    check(PolicyKind::S3Fifo, &zipf(0.7));
}

#[test]
fn predictions_for_shifting_popularity_are_within_two_points() {
    let keys: Vec<u32> = zipf(0.99)
        .iter()
        .enumerate()
        .map(|(at, key)| (key + u32::try_from(at).expect("few") / 10_000 * 6_000) % 60_000)
        .collect();
    check(PolicyKind::S3Fifo, &keys);
}

#[test]
fn the_step_in_the_curve_of_a_loop_is_predicted() {
    // The loop is larger than the cache and smaller than twice the cache: LRU hits nothing at 100 %
    // and nearly everything at 200 %.
    let keys: Vec<u32> = (0..READS).map(|at| at % 4_500).collect();
    let curve = Real::new(PolicyKind::Lru, ENTRIES).run(&keys).curve();
    assert!(curve.actual < 0.01 && curve.sizes[2] < 0.01, "{curve:?}");
    assert!(curve.sizes[3] > 0.9 && curve.sizes[4] > 0.9, "{curve:?}");
}

#[test]
fn predictions_account_for_expiry() {
    let keys = zipf(0.99);
    let real = |entries| {
        let short = Real { life_ms: 1_500, ..Real::new(PolicyKind::Lru, entries) };
        short.run(&keys)
    };
    let curve = real(ENTRIES).curve();
    // Without expiry, the hit ratio of the largest size would be 82 %.
    for (percent, predicted) in CURVE_PERCENTS.into_iter().zip(curve.sizes) {
        let truth = real(ENTRIES * u64::from(percent) / 100).hit_ratio();
        assert!((predicted - truth).abs() < 0.04, "{percent} %: {predicted} for {truth}");
    }
}

#[test]
fn the_curve_follows_a_change_of_load() {
    let mut real = Real::new(PolicyKind::Lru, ENTRIES).run(&zipf(0.99));
    let before = real.curve();
    assert!(before.actual > 0.5);
    // More than ten minutes of reads of new keys only.
    for at in 0..120_000 {
        real.now_us += 10_000;
        real.read(1_000_000 + at);
    }
    let after = real.curve();
    assert!(after.actual < 0.2 && after.sizes.iter().all(|&ratio| ratio < 0.2), "{after:?}");
}

#[test]
fn memory_and_work_are_bounded_for_any_number_of_keys_and_reads() {
    let capacity_bytes = 1_000_000 * weight(4, 10);
    let cache = Cache::new(Options { capacity_bytes, shards: Some(4), ..Options::default() });
    let group = cache.add_group("g", GroupOptions::default()).expect("the only one");
    let (now, mut most) = (Tick::from_millis(1), 0);
    let entry = NewEntry::new(Value::Present("0123456789".into()), Tick::NEVER, Tick::NEVER, 0);
    for at in 0..300_000u32 {
        // Read each key twice, so that some reads are hits.
        let key = (at / 2).to_be_bytes();
        if group.get(&key, now).is_none() {
            group.insert(&key, &entry, None, now).expect("it fits");
        }
        if at.is_multiple_of(1_000) {
            cache.sweep(now, 4_096);
            most = most.max(group.0.watch.memory_bytes());
        }
    }
    assert!(most > 100 << 10 && most <= 400 << 10, "{most} bytes");
}

#[test]
fn a_group_with_few_reads_reports_how_many_were_sampled() {
    let real = Real::new(PolicyKind::Lru, ENTRIES).run(&[1; 120]);
    let young = real.group.curve(real.now()).expect_err("120 reads");
    assert_eq!(young.to_string(), "not enough requests yet: 120 of 1000 sampled");
}

#[test]
fn a_change_of_policy_restarts_the_prediction() {
    let real = Real::new(PolicyKind::Lru, ENTRIES).run(&zipf(0.99));
    assert_eq!(real.curve().policy, PolicyKind::Lru);
    real.group.update(GroupOptions { policy: PolicyKind::Sieve, ..GroupOptions::default() });
    assert!(real.group.curve(real.now()).is_err());
    let real = real.run(&zipf(0.99));
    let curve = real.curve();
    assert_eq!(curve.policy, PolicyKind::Sieve);
    let sieve = curve.policies.iter().find(|(policy, _)| *policy == PolicyKind::Sieve);
    assert_eq!(sieve.map(|(_, ratio)| *ratio), Some(curve.sizes[2]));
}

#[test]
fn predictions_account_for_invalidations() {
    let mut real = Real::new(PolicyKind::Lru, ENTRIES);
    for at in 0..READS / 2 {
        let key = at % 1_000;
        real.read(key);
        real.group.invalidate(&key.to_be_bytes());
    }
    let curve = real.curve();
    assert!(curve.actual < 0.01 && curve.sizes[4] < 0.01, "{curve:?}");
}
