//! Predicted hit ratios beside real ones, and what the prediction costs a read.
//!
//! `larder-engine-bench curve [--traces FOLDER] [--sizes PERCENT,…] [--only NAME,…]`. A stream runs
//! through one cache that predicts; then each prediction is checked by a cache of that size or
//! policy which the whole stream runs through.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_engine::{
    CURVE_PERCENTS, Cache, Group, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value, weight,
};

use crate::workloads::{self, Random, Workload, Zipf};

const VALUE_BYTES: usize = 1 << 10;
/// Streams run at this many requests a second of the caches' own time.
const REQUESTS_PER_MS: u64 = 20;
/// As a member does it.
const SWEEP_MS: u64 = 250;
/// Policies whose curve is drawn; all are predicted at the present size.
const POLICIES: [PolicyKind; 3] = [PolicyKind::Lru, PolicyKind::S3Fifo, PolicyKind::TinyLfu];
/// Reads that the cost is measured over.
const COST_READS: u32 = 4_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of recorded streams.
    #[arg(long, env = "LARDER_TRACES")]
    traces: Option<PathBuf>,
    /// Streams to run; all, unless named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Memory of the cache that predicts, percent of the distinct keys.
    #[arg(long, value_delimiter = ',', default_value = "5")]
    sizes: Vec<f64>,
    /// Requests of a generated stream.
    #[arg(long, default_value_t = 500_000)]
    requests: u32,
}

/// Prints a table for each stream, then the cost.
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
            println!("| {policy} | too few requests were sampled | | | | | |");
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
        let told = rivals.iter().map(|(rival, p, t)| format!("{rival} {p:.1} / {t:.1}"));
        let errors = rivals.iter().map(|(_, p, t)| (p - t).abs()).sum::<f64>();
        let told = told.collect::<Vec<_>>().join(", ");
        let mean = errors / rivals.len() as f64;
        let bytes = curve.memory_bytes >> 10;
        println!("| policies at 1× | {told} | | | | | {mean:.2} |");
        println!(
            "| sampled {} of {} reads, {bytes} KiB | | | | | | |",
            curve.sampled, curve.requests
        );
    }
}

fn row(name: &str, cells: &[(f64, f64)]) {
    let told = cells.iter().map(|(predicted, real)| format!("{predicted:.1} / {real:.1}"));
    let mean = cells.iter().map(|(p, t)| (p - t).abs()).sum::<f64>() / cells.len() as f64;
    println!("| {name} | {} | {mean:.2} |", told.collect::<Vec<_>>().join(" | "));
}

/// Reads that hit, with the prediction at work and with its sample run dry: without sweeps the
/// queue stays full and the sample shrinks to nothing, so that only the compare is left.
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
                // Runs the sample dry.
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
    println!("\n## Cost of a read that hits, one thread, Zipf 0.99, 100,000 entries\n");
    println!("| | ns a read |\n|---|---|");
    println!("| with the prediction at work | {live:.1} |");
    println!("| with its sample run dry | {dry:.1} |");
    println!(
        "| the miniatures' work in the sweep, spread over the reads | {:.2} |",
        median(&swept)
    );
}

/// Nanoseconds a read took, and of a sweep its part, over all keys; sweeps by the wall's clock.
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

/// A cache of one group with room for so many entries.
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
