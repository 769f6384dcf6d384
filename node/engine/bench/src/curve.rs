//! Compares predicted with real hit ratios, and measures the cost of the prediction per read.
//!
//! `larder-engine-bench curve [--traces FOLDER] [--sizes PERCENT,…] [--only NAME,…]`. One cache
//! serves a stream and predicts. Then a cache of each predicted size or policy serves the whole
//! stream and yields the real hit ratio.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_engine::{
    CURVE_PERCENTS, Cache, Group, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight,
};

use crate::workloads::{self, Random, Workload, Zipf};

const VALUE_BYTES: usize = 1 << 10;
/// Requests per millisecond of the caches' time.
const REQUESTS_PER_MS: u64 = 20;
/// Interval of sweeps, as in a member.
const SWEEP_MS: u64 = 250;
/// Policies that are predicted at all sizes. At the current size, every policy is predicted.
const POLICIES: [PolicyKind; 3] = [PolicyKind::Lru, PolicyKind::S3Fifo, PolicyKind::TinyLfu];
/// Number of reads for the measurement of the cost.
const COST_READS: u32 = 4_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of recorded streams.
    #[arg(long, env = "LARDER_TRACES")]
    traces: Option<PathBuf>,
    /// Run only these streams.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Size of the predicting cache, in percent of the distinct keys.
    #[arg(long, value_delimiter = ',', default_value = "5")]
    sizes: Vec<f64>,
    /// Number of requests of each generated stream.
    #[arg(long, default_value_t = 500_000)]
    requests: u32,
}

/// Prints a table for each stream, and then the cost.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut workloads = match &args.traces {
        Some(folder) => workloads::traces(folder)?,
        None => Vec::new(),
    };
    workloads.extend(workloads::generated(args.requests));
    workloads.retain(|workload| args.only.is_empty() || args.only.contains(&workload.name));
    for workload in &workloads {
        for &percent in &args.sizes {
            let slots = (workload.distinct() as f64 * percent / 100.0) as u64;
            compare(workload, slots.max(100));
        }
    }
    cost();
    Ok(())
}

fn compare(workload: &Workload, slots: u64) {
    println!("\n## {}, {slots} entries\n", workload.name);
    println!("| predicted / real hit % | 0.25× | 0.5× | 1× | 2× | 4× | mean error, points |");
    println!("|---|---|---|---|---|---|---|");
    let truth = |policy, slots| Real::new(policy, slots).run(&workload.keys).hit_percent();
    for policy in POLICIES {
        let real = Real::new(policy, slots).run(&workload.keys);
        let Ok(curve) = real.group.curve(real.now()) else {
            println!("| {policy} | too few sampled requests | | | | | |");
            continue;
        };
        let sizes = CURVE_PERCENTS.iter().zip(curve.sizes).map(|(&percent, predicted)| {
            (predicted * 100.0, truth(policy, slots * u64::from(percent) / 100))
        });
        row(&format!("{policy}"), &sizes.collect::<Vec<_>>());
        if policy != PolicyKind::Lru {
            continue;
        }
        let rivals: Vec<_> = curve
            .policies
            .iter()
            .map(|&(rival, predicted)| (rival, predicted * 100.0, truth(rival, slots)))
            .collect();
        let pairs = rivals.iter().map(|(rival, p, t)| format!("{rival} {p:.1} / {t:.1}"));
        let errors = rivals.iter().map(|(_, p, t)| (p - t).abs()).sum::<f64>();
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        let mean = errors / rivals.len() as f64;
        let bytes = curve.memory_bytes >> 10;
        println!("| policies at 1× | {pairs} | | | | | {mean:.2} |");
        println!(
            "| sampled {} of {} reads, {bytes} KiB | | | | | | |",
            curve.sampled, curve.requests
        );
    }
}

fn row(name: &str, cells: &[(f64, f64)]) {
    let pairs = cells.iter().map(|(predicted, real)| format!("{predicted:.1} / {real:.1}"));
    let mean = cells.iter().map(|(p, t)| (p - t).abs()).sum::<f64>() / cells.len() as f64;
    println!("| {name} | {} | {mean:.2} |", pairs.collect::<Vec<_>>().join(" | "));
}

/// Measures hits with an active prediction and with an empty sample. Without sweeps, the queue
/// stays full and the sampling rate falls to zero, so only the comparison per read is left.
fn cost() {
    let slots = 100_000;
    let zipf = Zipf::new(slots, 0.99);
    let mut random = Random::new(7);
    let keys: Vec<u32> = (0..COST_READS).map(|_| zipf.draw(&mut random)).collect();
    let mut medians = [Vec::new(), Vec::new()];
    let mut swept = Vec::new();
    for _ in 0..5 {
        for (live, times) in [true, false].into_iter().zip(&mut medians) {
            let mut real = Real::new(PolicyKind::Lru, u64::from(slots) * 2);
            (0..slots).for_each(|key| real.read(key));
            if !live {
                // Empty the sample.
                keys.iter().take(2_000_000).for_each(|key| _ = real.get(*key));
            }
            let (took, sweeps) = reads(&real, &keys, live);
            times.push(took);
            if live {
                swept.push(sweeps);
            }
        }
    }
    let [live, dry] = medians.map(|times| median(&times));
    println!("\n## Cost of a hit, one thread, Zipf 0.99, 100,000 entries\n");
    println!("| | ns per read |\n|---|---|");
    println!("| with an active prediction | {live:.1} |");
    println!("| with an empty sample | {dry:.1} |");
    println!("| work of the miniatures in the sweep, per read | {:.2} |", median(&swept));
}

/// Nanoseconds per read over all keys, without and of the sweeps, which run in real-time intervals.
fn reads(real: &Real, keys: &[u32], sweep: bool) -> (f64, f64) {
    let begun = Instant::now();
    let mut next = begun + Duration::from_millis(SWEEP_MS);
    let mut swept = Duration::ZERO;
    for chunk in keys.chunks(1_000) {
        chunk.iter().for_each(|key| assert!(real.get(*key)));
        if sweep && Instant::now() >= next {
            let at = Instant::now();
            real.cache.sweep(real.now(), 4_096);
            swept += at.elapsed();
            next += Duration::from_millis(SWEEP_MS);
        }
    }
    let nanos = |time: Duration| time.as_nanos() as f64 / keys.len() as f64;
    (nanos(begun.elapsed().saturating_sub(swept)), nanos(swept))
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A cache with one group and a given number of slots.
struct Real {
    cache: Cache,
    group: Group,
    entry: NewEntry,
    reads: u64,
    hits: u64,
}

impl Real {
    fn new(policy: PolicyKind, slots: u64) -> Real {
        let capacity_bytes = slots * weight(4, VALUE_BYTES);
        let options = Options { capacity_bytes, shards: Some(1), ..Options::default() };
        let cache = Cache::new(options);
        let options = GroupOptions { policy, ..GroupOptions::default() };
        let group = cache.add_group("bench", options).expect("the only group");
        let value = Value::Present(Bytes::from(vec![0; VALUE_BYTES]));
        let entry = NewEntry::new(value, Tick::NEVER, Tick::NEVER, 0);
        Real { cache, group, entry, reads: 0, hits: 0 }
    }

    fn now(&self) -> Tick {
        Tick::from_millis(self.reads / REQUESTS_PER_MS)
    }

    fn get(&self, key: u32) -> bool {
        self.group.get(&key.to_be_bytes(), self.now()).is_some()
    }

    fn read(&mut self, key: u32) {
        self.reads += 1;
        if self.get(key) {
            self.hits += 1;
        } else {
            let stored = self.group.insert(&key.to_be_bytes(), &self.entry, None, self.now());
            stored.expect("it fits");
        }
        if self.reads % (REQUESTS_PER_MS * SWEEP_MS) == 0 {
            self.cache.sweep(self.now(), 4_096);
        }
    }

    fn run(mut self, keys: &[u32]) -> Real {
        keys.iter().for_each(|&key| self.read(key));
        self
    }

    fn hit_percent(&self) -> f64 {
        self.hits as f64 * 100.0 / self.reads as f64
    }
}
