//! `cargo xtask soak`: finds faults that appear only over time. This file lists the subjects.

use anyhow::Result;
use clap::Subcommand;

use crate::bench;

/// `cargo xtask soak`
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Fills the cache engine to three times its capacity, replaces its entries for minutes, and checks
    /// that resident memory stays flat.
    Engine(bench::Soak),
}

/// Runs until the time is up.
///
/// # Errors
/// When the build or the check fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Subject::Engine(args) = &args.subject;
    bench::soak(args)
}
