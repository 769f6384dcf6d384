//! Runs many seeds on all cores, and prints what happened.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::judge::{Figures, Violation};
use crate::plan::Plan;
use crate::scenario::{self, Ended};

/// Runs simulated clusters under faults, and checks what their readers saw.
#[derive(clap::Parser)]
#[command(name = "cargo xtask lab", bin_name = "cargo xtask lab")]
pub(crate) struct Args {
    /// Number of seeds, from `--from` on.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// Runs this seed only, and prints its timeline.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    pub(crate) seed: Option<u64>,
    /// Ends after this many seconds, whatever number of seeds has run.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
    /// Runs all seeds although some fail, and counts the broken rules.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Prints one line for each failing seed, with its first broken rule, or `none`.
    #[arg(long)]
    pub(crate) brief: bool,
    /// Leaves this seed out; may be given more than once.
    #[arg(long, value_name = "SEED")]
    pub(crate) skip: Vec<u64>,
}

/// The sums of a run.
#[derive(Default)]
struct Sums {
    seeds: u64,
    simulated: Duration,
    figures: Figures,
    faults: BTreeMap<&'static str, u64>,
    /// The failing seeds, each with its first broken rule.
    failures: BTreeMap<u64, Violation>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    if let Some(seed) = args.seed {
        return show(seed);
    }
    let began = Instant::now();
    let sums = run_seeds(args, began);
    if args.brief {
        for (seed, Violation { check, text, .. }) in &sums.failures {
            println!("{seed}\t{}\t{text}", check.name());
        }
        if sums.failures.is_empty() {
            println!("none");
        }
    } else {
        sums.print(began.elapsed());
    }
    if sums.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed with its timeline.
fn show(seed: u64) -> ExitCode {
    let plan = Plan::of(seed);
    let ended = scenario::run(seed, true);
    println!("seed {seed}: {} members, leases of {} s", plan.members, plan.lease_s);
    for group in &plan.groups {
        println!("  group {}: {} keys, {:?}", group.name, group.keys, group.freshness);
    }
    for planned in &plan.faults {
        println!(
            "  fault after {} ms for {} ms: {}",
            planned.at_ms, planned.lasts_ms, planned.fault
        );
    }
    for line in &ended.lines {
        println!("{line}");
    }
    let (hash, events) = ended.timeline;
    println!(
        "{events} events, hash {hash:016x}, {:.1} simulated seconds",
        ended.simulated.as_secs_f64()
    );
    print_violations(&ended.violations);
    if ended.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_violations(violations: &[Violation]) {
    for Violation { at_ms, check, text } in violations {
        println!(
            "broken: {} at {:.3} s: {text}",
            check.name(),
            Duration::from_millis(*at_ms).as_secs_f64()
        );
    }
}

fn run_seeds(args: &Args, began: Instant) -> Sums {
    let next = AtomicU64::new(args.from);
    let failed = AtomicBool::new(false);
    let sums = Mutex::new(Sums::default());
    let end = args.from + args.seeds;
    let progress = if args.brief { ProgressBar::hidden() } else { ProgressBar::new(args.seeds) };
    let style = "{bar:30} {pos} of {len} worlds, {eta} left";
    progress.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    let limit = args.seconds.map(Duration::from_secs);
    let work = || {
        loop {
            let over = limit.is_some_and(|limit| began.elapsed() >= limit);
            if over || (failed.load(Ordering::Relaxed) && !args.keep_going) {
                return;
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if args.skip.contains(&seed) {
                continue;
            }
            let ended = scenario::run(seed, false);
            failed.fetch_or(!ended.violations.is_empty(), Ordering::Relaxed);
            sums.lock().add(seed, ended);
            progress.inc(1);
        }
    };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| (0..cores).for_each(|_| _ = scope.spawn(work)));
    progress.finish_and_clear();
    sums.into_inner()
}

impl Sums {
    fn add(&mut self, seed: u64, ended: Ended) {
        let Ended { violations, figures, faults, simulated, .. } = ended;
        self.seeds += 1;
        self.simulated += simulated;
        self.figures.add(figures);
        for (kind, count) in faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if let Some(first) = violations.into_iter().next() {
            self.failures.insert(seed, first);
        }
    }

    fn print(&self, took: Duration) {
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        println!(
            "{} worlds, {hours:.1} simulated hours in {:.1} minutes",
            self.seeds,
            took.as_secs_f64() / 60.0
        );
        let Figures { reads, failed_reads, loads, invalidations, partial_invalidations } =
            self.figures;
        println!("{reads} reads ({failed_reads} without a value), {loads} loads");
        println!(
            "{invalidations} invalidations ({partial_invalidations} did not reach every member)"
        );
        for (kind, count) in &self.faults {
            println!("{count:>8}  {kind}");
        }
        let mut broken: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (seed, violation) in &self.failures {
            broken.entry(violation.check.name()).or_default().push(*seed);
        }
        for (check, seeds) in broken {
            let first: Vec<u64> = seeds.iter().take(5).copied().collect();
            println!("broken: {check} in {} worlds: {first:?}", seeds.len());
        }
        match self.failures.first_key_value() {
            None => println!("every rule held in every world"),
            Some((seed, violation)) => {
                println!("seed {seed} fails:");
                print_violations(std::slice::from_ref(violation));
                println!("replay it with: cargo xtask lab --seed {seed}");
            }
        }
    }
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.failed_reads += other.failed_reads;
        self.loads += other.loads;
        self.invalidations += other.invalidations;
        self.partial_invalidations += other.partial_invalidations;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// How long the worlds of `cargo xtask test` run, seconds.
    const SECONDS: &str = "20";

    #[test]
    fn every_rule_holds_in_every_world() {
        let args = ["lab", "--brief", "--seeds", "1000000", "--seconds", SECONDS];
        let sums = run_seeds(&Args::parse_from(args), Instant::now());
        sums.print(Duration::from_secs(20));
        assert!(sums.failures.is_empty(), "a world breaks a rule, see above");
        assert!(sums.seeds > 100, "{} worlds only", sums.seeds);
    }

    #[test]
    fn a_seed_replays_its_run_exactly() {
        for seed in 0..20 {
            let (first, again) = (scenario::run(seed, false), scenario::run(seed, false));
            assert_eq!(first.timeline, again.timeline, "seed {seed}");
            assert!(first.timeline.1 > 100, "seed {seed}");
        }
    }
}
