//! `cargo xtask miri`: runs tests of the engine's data structures in Miri, an interpreter that detects
//! undefined behaviour, leaks and data races.
//!
//! The engine forbids `unsafe`, so this checks the crates that it uses (hashbrown, bytes,
//! parking_lot). The policies' simulations are left out: under Miri they take hours.

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// Runs tests whose names contain one of these.
const STRUCTURES: [&str; 6] = ["slab::", "queue::", "expiry::", "entry::", "fence::", "ghost::"];
/// Leaves these out: they advance the timer wheel by days.
const LONG: [&str; 4] = ["--skip", "after_a_long_pause", "--skip", "every_life"];
/// Random cases per property, instead of hundreds.
const CASES: &str = "2";

/// `cargo xtask miri`
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the tests.
///
/// # Errors
/// When a test fails, or there is no nightly toolchain with Miri; that error holds the command that
/// installs it.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    rustup.args(["run", "nightly", "cargo", "miri", "--version"]);
    command::output(&mut rustup)
        .context("Miri is missing: rustup toolchain install nightly --component miri,rust-src")?;
    let mut miri = std::process::Command::new("rustup");
    miri.current_dir(workspace::root()).env("PROPTEST_CASES", CASES);
    // proptest reads the folder in which it records failures.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("CARGO_TARGET_DIR", workspace::target());
    miri.args(["run", "nightly", "cargo", "miri", "test", "-p", "larder-engine", "--lib", "--"]);
    command::shown(miri.args(STRUCTURES).args(LONG))
}
