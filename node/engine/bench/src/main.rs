//! Compares the engine with other libraries: hit ratios (`hit-ratio`), speed and memory (`engine`),
//! and memory over time (`soak`).
//!
//! Results go to standard output as Markdown, progress to standard error. `cargo xtask bench` runs
//! this program and inserts the tables into the documentation.

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

/// Compares the engine with other libraries: hit ratios, speed, memory, a soak.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Hit ratios of all policies, other libraries and the optimum, on recorded and generated
    /// streams.
    HitRatio(hit_ratio::Args),
    /// Throughput, latency and bytes per entry.
    Engine(engine::Args),
    /// Predicted and real hit ratios, and the cost of the prediction per read.
    Curve(curve::Args),
    /// Fills a cache with three times its budget, churns, and fails unless resident memory stays
    /// flat.
    Soak(soak::Args),
    /// Fills one cache in this process and prints its memory cost: a step of `engine`.
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
