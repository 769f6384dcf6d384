//! `cargo xtask miri`: the engine's own data structures in an interpreter that sees undefined behaviour,
//! leaks and data races.
//!
//! The engine forbids `unsafe`, so this speaks of the crates below it (hashbrown, bytes, parking_lot)
//! as the engine uses them. It never runs the policies' long simulations: interpreted, they take hours.

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// Tests whose names contain one of these.
const STRUCTURES: [&str; 6] = ["slab::", "queue::", "expiry::", "entry::", "fence::", "ghost::"];
/// But none of these: they turn the timer wheel through days.
const LONG: [&str; 4] = ["--skip", "after_a_long_pause", "--skip", "every_life"];
/// Random cases of each property, instead of hundreds.
const CASES: &str = "2";

/// `cargo xtask miri`
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs them.
///
/// # Errors
/// When a test fails, or there is no nightly toolchain with miri; then with the command to get it.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    rustup.args(["run", "nightly", "cargo", "miri", "--version"]);
    command::output(&mut rustup)
        .context("get it: rustup toolchain install nightly --component miri,rust-src")?;
    let mut miri = std::process::Command::new("rustup");
    miri.current_dir(workspace::root()).env("PROPTEST_CASES", CASES);
    // A property reads the folder that it would note failures in.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("CARGO_TARGET_DIR", workspace::target());
    miri.args(["run", "nightly", "cargo", "miri", "test", "-p", "larder-engine", "--lib", "--"]);
    command::shown(miri.args(STRUCTURES).args(LONG))
}
