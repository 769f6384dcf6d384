//! `cargo xtask soak`: finds faults that appear only over time. This file lists the subjects.

mod faults;

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
    /// Takes etcd away for minutes in every way, and stops, kills and overloads members, while a constant
    /// rate of reads checks that none fails.
    Faults(faults::Faults),
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
        Subject::Faults(args) => faults::run(args),
    }
}
