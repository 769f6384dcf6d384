//! Memory over time: inserts three times the budget with values of mixed sizes, churns, and fails
//! unless the resident memory stays flat. The engine is used as in a member: several threads read
//! and invalidate, one other inserts (in `node/src/app.rs`, loads run on the background thread),
//! entries expire, sizes change with each write, and housekeeping runs concurrently.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use larder_engine::{Cache, Group, GroupOptions, NewEntry, Options, Tick, Value};

use crate::memory::{mixed_bytes, resident_bytes};
use crate::workloads::{Random, Zipf};

/// Maximum deviation of the resident memory from its first settled value, in either direction.
const BAND_PERCENT: f64 = 5.0;
/// Maximum resident memory at any settled time, in multiples of the budget.
const MOST_RESIDENT: f64 = 1.15;
/// Share of the churn during which the memory may still settle.
const SETTLING: f64 = 0.1;
/// Total size of all keys, in multiples of the budget.
const FILL: u64 = 3;
/// Approximate mean size of a mixed value, used to derive the number of keys from [`FILL`].
const MEAN_BYTES: u64 = 9_400;
/// Maximum number of keys queued per inserting thread. Readers wait if the queue is full.
const WANTED: usize = 256;
/// Life of an entry, after which the sweep removes it.
const LIFE_MS: u64 = 60_000;
/// Interval and budget of a sweep, as in a member.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_BUDGET: usize = 10_000;
/// Interval of samples, and number of samples per printed line.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PRINT_EVERY: u64 = 10;

/// `soak`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of churn after the fill.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Capacity of the cache in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
    budget_mib: u64,
    /// Number of reading threads [default: one per processor].
    #[arg(long)]
    threads: Option<usize>,
    /// Number of inserting threads. A member has one; a program that embeds the engine may have
    /// more.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    fillers: u8,
}

/// Resident memory at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    resident: u64,
}

/// Runs the whole churn and then checks the samples.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let budget = args.budget_mib << 20;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or_else(cores).max(1);
    let before = resident_bytes()?;
    let cache = Cache::new(Options { capacity_bytes: budget, ..Options::default() });
    let group = cache.add_group("soak", GroupOptions::default())?;
    let keys = (budget * FILL).div_ceil(MEAN_BYTES);
    println!(
        "budget {} MiB, {keys} keys ({FILL} x the budget), values of 64 B to 64 KiB, threads: \
         {threads} read, {} fill, policy {}",
        args.budget_mib,
        args.fillers,
        group.options().policy.name()
    );
    let begin = Instant::now();
    let (stop, operations) = (AtomicBool::new(false), AtomicU64::new(0));
    let fillers = u64::from(args.fillers);
    let filled = Barrier::new(usize::from(args.fillers) + threads + 1);
    let samples = std::thread::scope(|scope| {
        let mut wanted = Vec::new();
        for filler in 0..fillers {
            let (wants, asked) = sync_channel(WANTED);
            wanted.push(wants);
            let mut churn = Churn::new(group.clone(), begin, filler);
            let filled = &filled;
            scope.spawn(move || {
                // Fill in this thread, whose allocator arena the churn uses too.
                let each = usize::from(args.fillers);
                (filler..keys).step_by(each).for_each(|key| churn.write(key));
                filled.wait();
                churn.fill(&asked);
            });
        }
        for reader in 0..threads as u64 {
            let mut churn = Churn::new(group.clone(), begin, fillers + reader);
            let (stop, operations, filled) = (&stop, &operations, &filled);
            let wanted = wanted.clone();
            scope.spawn(move || {
                filled.wait();
                churn.read(&wanted, stop, operations, keys);
            });
        }
        // The inserting threads end after the last reader.
        drop(wanted);
        filled.wait();
        println!("filled after {:.1} s", begin.elapsed().as_secs_f64());
        let samples = watch(&cache, before, args.seconds, begin, &operations);
        stop.store(true, Ordering::Relaxed);
        samples
    })?;
    group.validate();
    judge(&samples, args.seconds as f64, budget)
}

/// Sweeps as a member does, takes samples and prints some of them.
fn watch(
    cache: &Cache,
    before: u64,
    seconds: u64,
    begin: Instant,
    operations: &AtomicU64,
) -> anyhow::Result<Vec<Sample>> {
    let (start, mut samples) = (Instant::now(), Vec::new());
    let mut looks = 0u64;
    while start.elapsed().as_secs() < seconds {
        std::thread::sleep(SWEEP_EVERY);
        while cache.sweep(tick(begin), SWEEP_BUDGET).more {}
        if start.elapsed() < LOOK_EVERY * u32::try_from(looks + 1).unwrap_or(u32::MAX) {
            continue;
        }
        looks += 1;
        let resident = resident_bytes()?.saturating_sub(before);
        samples.push(Sample { seconds: start.elapsed().as_secs_f64(), resident });
        if looks % PRINT_EVERY == 0 {
            print_look(cache, start, resident, operations);
        }
    }
    Ok(samples)
}

fn print_look(cache: &Cache, start: Instant, resident: u64, operations: &AtomicU64) {
    let entries: u64 = cache.stats().iter().map(|(_, stats)| stats.entries).sum();
    println!(
        "{:>5.0} s: resident {:.1} MiB, charged {:.1} MiB, {entries} entries, {:.2} M operations",
        start.elapsed().as_secs_f64(),
        resident as f64 / f64::from(1 << 20),
        cache.bytes() as f64 / f64::from(1 << 20),
        operations.load(Ordering::Relaxed) as f64 / 1e6,
    );
}

fn tick(begin: Instant) -> Tick {
    Tick::from_millis(u64::try_from(begin.elapsed().as_millis()).expect("a few minutes"))
}

/// One thread's requests.
struct Churn {
    group: Group,
    begin: Instant,
    random: Random,
    source: Bytes,
}

impl Churn {
    fn new(group: Group, begin: Instant, seed: u64) -> Churn {
        let source = Bytes::from(vec![7; 64 << 10]);
        Churn { group, begin, random: Random::new(0x50AC + seed), source }
    }

    /// Inserts a value of random size.
    fn write(&mut self, key: u64) {
        let now = tick(self.begin);
        let value = self.source.slice(..mixed_bytes(&mut self.random));
        let until = now.after_millis(LIFE_MS);
        let entry = NewEntry::new(Value::Present(value), until, until, 1);
        let fence = self.group.begin_load();
        // Ignore a refusal: the fence may have closed, or the entry is too large for a shard.
        let _ = self.group.insert(&key.to_be_bytes(), &entry, Some(fence), now);
    }

    /// Inserts the requested keys until all readers have ended.
    fn fill(&mut self, asked: &Receiver<u64>) {
        asked.iter().for_each(|key| self.write(key));
    }

    /// Of all operations, 90 % read a key and request its insert on a miss, 9 % request an
    /// overwrite and 1 % invalidate.
    fn read(
        &mut self,
        wanted: &[SyncSender<u64>],
        stop: &AtomicBool,
        operations: &AtomicU64,
        keys: u64,
    ) {
        let zipf = Zipf::new(u32::try_from(keys).expect("few enough"), 0.7);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..100 {
                let key = u64::from(zipf.draw(&mut self.random));
                let kind = self.random.next() % 100;
                if kind == 0 {
                    self.group.invalidate(&key.to_be_bytes());
                } else if kind < 10
                    || self.group.get(&key.to_be_bytes(), tick(self.begin)).is_none()
                {
                    let filler = key as usize % wanted.len();
                    wanted[filler].send(key).expect("the inserting threads end after the readers");
                }
            }
            operations.fetch_add(100, Ordering::Relaxed);
        }
    }
}

/// Checks that every settled sample is within the band around the first one and below the maximum.
fn judge(samples: &[Sample], seconds: f64, budget: u64) -> anyhow::Result<()> {
    let settled: Vec<u64> = samples
        .iter()
        .filter(|sample| sample.seconds >= seconds * SETTLING)
        .map(|sample| sample.resident)
        .collect();
    ensure!(!settled.is_empty(), "the run is too short for a single sample");
    let first = settled[0] as f64;
    let (least, most) = settled
        .iter()
        .fold((f64::MAX, 0.0f64), |(a, b), &now| (a.min(now as f64), b.max(now as f64)));
    let (down, up) = ((least / first - 1.0) * 100.0, (most / first - 1.0) * 100.0);
    let part = most / budget as f64;
    println!(
        "resident memory after the first {:.0} s: {down:+.1} to {up:+.1} % of its first value \
         (band: {BAND_PERCENT} % either way), at most {part:.3} x budget (bar: {MOST_RESIDENT})",
        seconds * SETTLING
    );
    ensure!(-down <= BAND_PERCENT && up <= BAND_PERCENT, "resident memory is not flat");
    ensure!(part <= MOST_RESIDENT, "resident memory exceeds its maximum");
    println!("flat");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(resident: &[u64]) -> bool {
        let sample = |(at, &resident): (usize, &u64)| Sample { seconds: at as f64, resident };
        let samples: Vec<Sample> = resident.iter().enumerate().map(sample).collect();
        judge(&samples, resident.len() as f64, 1_000).is_ok()
    }

    #[test]
    fn growth_fails_after_settling_but_not_before() {
        assert!(judged(&[100, 1_000, 1_010, 990, 1_000, 1_000, 1_020, 1_000, 1_000, 1_049]));
        assert!(!judged(&[1_000, 1_000, 1_010, 990, 1_000, 1_000, 1_020, 1_000, 1_000, 1_051]));
        assert!(!judged(&[1_000, 1_000, 1_010, 949, 1_000, 1_000, 1_020, 1_000, 1_000, 1_000]));
    }

    #[test]
    fn flat_memory_above_the_maximum_fails() {
        assert!(!judged(&[1_200; 20]));
    }
}
