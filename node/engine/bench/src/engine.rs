//! Speed and memory compared with other libraries: throughput, latency of the slowest operations,
//! bytes per entry, and the targets for them. The caches alternate in every round and the median
//! round counts, so that a disturbance of some seconds affects all of them.

mod report;
mod speed;

use crate::contenders;
use crate::memory::{self, Cost, MIXED};
use crate::progress::Progress;

/// Sizes of values in bytes.
const VALUES: [usize; 4] = [64, 1 << 10, 64 << 10, MIXED];

/// `engine`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of measurements of each cache and shape; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Operations per thread and round.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    operations: u32,
    /// Operations that bring a cache to its steady state before the first round.
    #[arg(long, default_value_t = 1_000_000)]
    warm_up: u32,
    /// Capacity of the caches whose memory is measured, in MiB.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=4096))]
    budget_mib: u64,
    /// Measure only the shapes whose name contains this ("hits, Zipf 0.99, 1 thread"), and no
    /// memory.
    #[arg(long)]
    shape: Option<String>,
    /// Measure only these caches.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
}

/// Measures everything and prints tables and verdicts.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = |name: &&str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let names: Vec<&str> = contenders::NAMES.iter().copied().filter(wanted).collect();
    anyhow::ensure!(
        !names.is_empty(),
        "no such cache, choose from {}",
        contenders::NAMES.join(", ")
    );
    let measured = speed::measure(&names, args);
    print!("{}", report::throughput(&names, &measured));
    if args.shape.is_some() {
        return Ok(());
    }
    let costs = costs(&names, args.budget_mib << 20)?;
    print!("\n{}", report::latency(&names, &measured));
    print!("\n{}", report::memory(&names, &costs, args.budget_mib << 20));
    print!("\n{}", report::bars(&names, &measured, &costs, args.budget_mib << 20));
    Ok(())
}

/// For each cache, the memory cost with each size of values.
fn costs(names: &[&str], budget: u64) -> anyhow::Result<Vec<Vec<(usize, Cost)>>> {
    let progress = Progress::new("memory", names.len() * VALUES.len());
    let mut all = Vec::new();
    for name in names {
        let mut row = Vec::new();
        for value_bytes in VALUES {
            row.push((value_bytes, memory::measure(name, value_bytes, budget)?));
            progress.step();
        }
        all.push(row);
    }
    Ok(all)
}
