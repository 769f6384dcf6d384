//! `cargo xtask bench`: honest comparisons, each in one run. This file only lists them.

mod engine;
mod figures;
mod get;
mod page;
mod servers;

use anyhow::Result;
use clap::Subcommand;

pub(crate) use self::engine::{Soak, soak, tests};

/// `cargo xtask bench`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    comparison: Option<Comparison>,
    /// Without a name it is `get`.
    #[command(flatten)]
    get: get::Get,
}

#[derive(Subcommand)]
enum Comparison {
    /// A single GET hit: member, tonic echo, memcached; rewrites docs/benchmarks.md.
    Get(get::Get),
    /// Hit ratios of every policy, other libraries and the optimum; rewrites
    /// docs/benchmarks/hit-ratio.md and its plots.
    HitRatio(engine::HitRatio),
    /// Throughput, latency and memory beside other libraries; rewrites docs/benchmarks/engine.md.
    Engine(engine::Engine),
}

/// Measures, prints the tables, and writes them into their page, unless the machine was too busy
/// with other things for the figures to mean anything.
///
/// # Errors
/// When something cannot be built or started, or gives a wrong answer.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.comparison {
        None => get::run(&args.get),
        Some(Comparison::Get(args)) => get::run(args),
        Some(Comparison::HitRatio(args)) => engine::hit_ratio(args),
        Some(Comparison::Engine(args)) => engine::engine(args),
    }
}
