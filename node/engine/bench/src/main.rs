//! The engine beside other libraries, in one run: hit ratios (`hit-ratio`), speed and memory
//! (`engine`), and memory over time (`soak`).
//!
//! Results go to standard output as Markdown, progress to standard error. It knows neither the
//! documentation's pages nor the commit: `cargo xtask bench` puts the tables where they belong.

mod belady;
mod contenders;
mod curve;
mod engine;
mod hit_ratio;
mod memory;
mod plot;
mod progress;
mod soak;
mod subjects;
mod table;
mod workloads;

use clap::{Parser, Subcommand};

/// The engine beside other libraries: hit ratios, speed, memory, a soak.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Hits of every policy, other libraries and the optimum, on traces and generated streams.
    HitRatio(hit_ratio::Args),
    /// Throughput, latency and bytes an entry.
    Engine(engine::Args),
    /// Predicted hit ratios beside real ones, and what the prediction costs a read.
    Curve(curve::Args),
    /// Fills to three times the budget, churns, and fails unless resident memory stays flat.
    Soak(soak::Args),
    /// Fills one cache in this process and prints what it costs: a step of `engine`.
    #[command(hide = true)]
    Fill(memory::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::HitRatio(args) => hit_ratio::run(&args),
        Verb::Engine(args) => engine::run(&args),
        Verb::Curve(args) => curve::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Fill(args) => memory::fill(&args),
    }
}
