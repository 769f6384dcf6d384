//! Measures throughput and latency of all caches in alternating rounds.

use std::fmt;
use std::sync::Barrier;
use std::time::Instant;

use bytes::Bytes;

use super::Args;
use crate::contenders::{self, Contender};
use crate::progress::Progress;
use crate::workloads::{Random, Zipf};

/// As in the comparison from which the targets were derived: a tenth of the keys fit, with values
/// of 100 bytes.
const KEYS: u32 = 1_000_000;
const SLOTS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const SKEWS: [f64; 3] = [0.7, 0.99, 1.2];
const THREADS: [usize; 2] = [1, 2];
/// The skew at which every single operation is timed.
const TIMED_SKEW: f64 = 0.99;
/// Capacity of a cache that must not evict, in multiples of its content: shards fill unevenly.
const HEADROOM: u64 = 2;

/// The operations of a measurement.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Reads, with a write after each miss.
    Fill,
    /// Reads that all hit.
    Hits,
    /// Like `Fill`, with each operation timed individually.
    Timed,
}

/// One kind of measurement of all caches.
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) skew: f64,
    pub(super) threads: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { kind, skew, threads } = self;
        let what = if *kind == Kind::Hits { "hits" } else { "get or insert" };
        let plural = if *threads == 1 { "" } else { "s" };
        write!(out, "{what}, Zipf {skew}, {threads} thread{plural}")
    }
}

/// The result of one round, or the median of several rounds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Round {
    /// Millions of operations per second of all threads together.
    pub(super) mops: f64,
    /// Percentage of the reads that hit.
    pub(super) hits: f64,
    /// Median and 99.9th percentile of an operation's time in nanoseconds, for `Timed`.
    pub(super) p50_ns: f64,
    pub(super) p999_ns: f64,
}

/// A shape and the medians of each cache.
pub(super) struct Measured {
    pub(super) shape: Shape,
    pub(super) medians: Vec<Round>,
}

/// Measures all shapes. The streams are generated once per skew.
pub(super) fn measure(names: &[&str], args: &Args) -> Vec<Measured> {
    let (warm_up, operations) = (args.warm_up as usize, args.operations as usize);
    let rounds = args.rounds as usize;
    let mut all = Vec::new();
    for skew in SKEWS {
        let most = THREADS.iter().max().copied().unwrap_or(1);
        let mut random = Random::new(0x5EED);
        let mut wide = stream(KEYS, skew, warm_up, &mut random);
        wide.extend(stream(KEYS, skew, operations * most * rounds, &mut random));
        let slots = u32::try_from(SLOTS).expect("small");
        let narrow = stream(slots, skew, operations * most, &mut random);
        for threads in THREADS {
            for kind in [Kind::Fill, Kind::Hits, Kind::Timed] {
                if kind == Kind::Timed && skew != TIMED_SKEW {
                    continue;
                }
                let shape = Shape { kind, skew, threads };
                if args.shape.as_ref().is_some_and(|part| !shape.to_string().contains(part)) {
                    continue;
                }
                let streams = match kind {
                    Kind::Hits => (&[][..], &narrow[..]),
                    Kind::Fill | Kind::Timed => wide.split_at(warm_up),
                };
                let medians = interleaved(names, &shape, streams, rounds, operations);
                all.push(Measured { shape, medians });
            }
        }
    }
    all
}

/// The key of a rank is the rank itself: the caches hash it and do not depend on its value.
fn stream(keys: u32, skew: f64, length: usize, random: &mut Random) -> Vec<u32> {
    let zipf = Zipf::new(keys, skew);
    (0..length).map(|_| zipf.draw(random)).collect()
}

fn interleaved(
    names: &[&str],
    shape: &Shape,
    (warm_up, keys): (&[u32], &[u32]),
    rounds: usize,
    operations: usize,
) -> Vec<Round> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let weight = larder_engine::weight(contenders::KEY_BYTES, VALUE_BYTES);
    let room = SLOTS * weight * if shape.kind == Kind::Hits { HEADROOM } else { 1 };
    let progress = Progress::new(shape.to_string(), names.len() * (rounds + 1));
    let prepare = |name: &&str| {
        let cache = contenders::build(name, room, VALUE_BYTES);
        match shape.kind {
            Kind::Hits => (0..SLOTS).for_each(|key| cache.write(key, &value)),
            Kind::Fill | Kind::Timed => {
                for &key in warm_up {
                    get_or_insert(&*cache, key, &value);
                }
            }
        }
        progress.step();
        cache
    };
    let caches: Vec<Box<dyn Contender>> = names.iter().map(prepare).collect();
    let mut results = vec![Vec::new(); names.len()];
    for round in 0..rounds {
        for (cache, results) in caches.iter().zip(&mut results) {
            let each = operations * shape.threads;
            let from = if shape.kind == Kind::Hits { 0 } else { round * each };
            let parts: Vec<&[u32]> = keys[from..from + each].chunks(operations).collect();
            results.push(one_round(&**cache, shape.kind, &parts, &value));
            progress.step();
        }
    }
    results.into_iter().map(median).collect()
}

/// Returns true on a hit.
fn get_or_insert(cache: &dyn Contender, key: u32, value: &Bytes) -> bool {
    let hit = cache.read(u64::from(key));
    if !hit {
        cache.write(u64::from(key), value);
    }
    hit
}

/// Runs each part in its own thread, all at the same time.
fn one_round(cache: &dyn Contender, kind: Kind, parts: &[&[u32]], value: &Bytes) -> Round {
    let start = Barrier::new(parts.len());
    let work = |keys: &[u32]| {
        let mut times = Vec::with_capacity(if kind == Kind::Timed { keys.len() } else { 0 });
        start.wait();
        let begin = Instant::now();
        let hits = match kind {
            Kind::Fill => keys.iter().filter(|&&key| get_or_insert(cache, key, value)).count(),
            Kind::Hits => keys.iter().filter(|&&key| cache.read(u64::from(key))).count(),
            Kind::Timed => timed(cache, keys, value, &mut times),
        };
        (hits, times, begin, Instant::now())
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|keys| scope.spawn(|| work(keys))).collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.expect("a contender does not panic")).collect()
    });
    // Use times taken by the threads: an observer may get no processor while they run.
    let begin = done.iter().map(|(.., begin, _)| *begin).min().expect("at least one thread");
    let end = done.iter().map(|(.., end)| *end).max().expect("at least one thread");
    let took = (end - begin).as_secs_f64();
    let (mut hits, mut times) = (0, Vec::new());
    for (part_hits, part_times, ..) in done {
        hits += part_hits;
        times.extend(part_times);
    }
    let count = parts.iter().map(|part| part.len()).sum::<usize>() as f64;
    let (p50_ns, p999_ns) = (quantile(&mut times, 0.5), quantile(&mut times, 0.999));
    Round { mops: count / took / 1e6, hits: hits as f64 * 100.0 / count, p50_ns, p999_ns }
}

/// Reads the clock once per operation: the end of one is the start of the next.
fn timed(cache: &dyn Contender, keys: &[u32], value: &Bytes, times: &mut Vec<u32>) -> usize {
    let mut hits = 0;
    let mut last = Instant::now();
    for &key in keys {
        hits += usize::from(get_or_insert(cache, key, value));
        let now = Instant::now();
        times.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
        last = now;
    }
    hits
}

fn quantile(times: &mut [u32], part: f64) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    let at = ((times.len() as f64 * part) as usize).min(times.len() - 1);
    f64::from(*times.select_nth_unstable(at).1)
}

/// The median of each figure individually.
fn median(rounds: Vec<Round>) -> Round {
    let middle = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Round {
        mops: middle(|round| round.mops),
        hits: middle(|round| round.hits),
        p50_ns: middle(|round| round.p50_ns),
        p999_ns: middle(|round| round.p999_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let mut times: Vec<u32> = (0..1_000).rev().collect();
        assert_eq!((quantile(&mut times, 0.5), quantile(&mut times, 0.999)), (500.0, 999.0));
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn a_hits_shape_has_only_hits_and_the_median_ignores_one_bad_round() {
        let keys = stream(1_000, 0.99, 4_000, &mut Random::new(1));
        let cache = contenders::build("larder Lru", 64 << 20, VALUE_BYTES);
        let value = Bytes::from_static(b"value");
        (0..1_000).for_each(|key| cache.write(key, &value));
        let parts: Vec<&[u32]> = keys.chunks(2_000).collect();
        assert_eq!(one_round(&*cache, Kind::Hits, &parts, &value).hits, 100.0);
        let round = |mops| Round { mops, ..Round::default() };
        assert_eq!(median(vec![round(9.0), round(0.1), round(8.0)]).mops, 8.0);
    }
}
