//! `cargo xtask soak faults`: the tests of `node/tests/faults.rs` with outages that last minutes.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tools::{self, Tool};
use crate::{command, compile};

/// The test program. `cargo xtask test` runs the short form.
const SOURCE: &str = "node/tests/faults.rs";
/// All outages at the same time: nearly all of it is waiting.
const AT_ONCE: &str = "8";

/// `cargo xtask soak faults`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask soak faults
  cargo xtask soak faults --minutes 2 etcd_is_black_holed")]
pub(crate) struct Faults {
    /// Minutes of each outage of etcd. Its leader is killed twice for each.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Runs only tests whose names contain one of these.
    filters: Vec<String>,
}

/// Shows the progress, then a table of the figures, also when a test fails.
///
/// # Errors
/// When the build fails, etcd cannot be built, or a test fails.
pub(crate) fn run(args: &Faults) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        bail!("--minutes must be above 0 and at most 1440 (a day)");
    }
    let etcd = tools::ensure(&[Tool::Etcd])?;
    let built = compile::targets(&["--test", "faults"])?;
    let program = built.tests.into_iter().find(|test| test.source == SOURCE);
    let program = program.with_context(|| format!("cargo built no {SOURCE}"))?;
    let figures = tempfile::NamedTempFile::new().context("make a file for the figures")?;
    let ended = command::shown(
        Command::new(program.file)
            .args(&args.filters)
            .current_dir(program.folder)
            .env("LARDER_ETCD", etcd.path(Tool::Etcd))
            .env("LARDER_FAULTS_MINUTES", args.minutes.to_string())
            .env("LARDER_FAULTS_FIGURES", figures.path())
            .env("RUST_TEST_THREADS", AT_ONCE),
    );
    let rows = std::fs::read_to_string(figures.path()).context("read the figures")?;
    println!("\n| promise | fault | figures |\n| --- | --- | --- |\n{rows}");
    ended
}
