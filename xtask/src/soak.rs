//! `cargo xtask soak`: finds faults that appear only over time. This file lists the subjects.

use anyhow::Result;
use clap::Subcommand;

use crate::{bench, test};

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
    /// Runs the Kubernetes tests on the published images (release builds, ten minutes the first time) and
    /// checks the resident memory of members and operator.
    Cluster(Cluster),
}

/// `cargo xtask soak cluster`
#[derive(clap::Args)]
struct Cluster {
    /// Runs only tests whose names contain one of these.
    filters: Vec<String>,
}

/// Runs until the time is up.
///
/// # Errors
/// When the build or the check fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.subject {
        Subject::Engine(args) => bench::soak(args),
        Subject::Cluster(args) => test::published_images(&args.filters),
    }
}
