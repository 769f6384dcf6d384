//! `cargo xtask bench`: comparisons with other servers and libraries, each measured in one
//! run. This file only lists them.

mod engine;
mod figures;
mod get;
mod page;
mod servers;
mod warmth;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use self::engine::{Soak, soak, tests};

/// `cargo xtask bench`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    comparison: Option<Comparison>,
    /// The options of `get`, which runs when no comparison is named.
    #[command(flatten)]
    get: get::Get,
}

#[derive(Subcommand)]
enum Comparison {
    /// A single GET hit: member, tonic echo, memcached; rewrites docs/benchmarks.md.
    Get(get::Get),
    /// Hit ratios of every policy, of other libraries and of the optimum; rewrites
    /// docs/benchmarks/hit-ratio.md and its plots.
    HitRatio(engine::HitRatio),
    /// Throughput, latency and memory compared with other libraries; rewrites docs/benchmarks/engine.md.
    Engine(engine::Engine),
    /// Hit ratio and load of the origin through rollout, scaling, drain and failures on a real
    /// Kubernetes; rewrites docs/benchmarks/warmth.md and its plots.
    Warmth(warmth::Warmth),
}

/// Measures, prints the tables and writes them into their page. A page keeps its tables when other
/// load on the machine makes the new figures meaningless.
///
/// # Errors
/// When something cannot be built or started, or gives a wrong answer.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.comparison {
        None => get::run(&args.get),
        Some(Comparison::Get(args)) => get::run(args),
        Some(Comparison::HitRatio(args)) => engine::hit_ratio(args),
        Some(Comparison::Engine(args)) => engine::engine(args),
        Some(Comparison::Warmth(args)) => warmth::run(args),
    }
}
