//! `cargo xtask soak`: what only shows over time. This file only lists the subjects.

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
    /// The cache engine, filled to three times its budget and churned: resident memory stays flat.
    Engine(bench::Soak),
}

/// Runs until the time is up.
///
/// # Errors
/// When something cannot be built, or what is shown does not hold.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Subject::Engine(args) = &args.subject;
    bench::soak(args)
}
