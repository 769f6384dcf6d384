//! `cargo xtask lint`: the format, every lint, warnings as errors, and the rules about dependencies
//! where cargo-deny is installed.
//!
//! It never changes a file, and never goes through RUSTFLAGS, which would throw caches away.

use std::process::Command;

use anyhow::Result;

use crate::command;

/// `cargo xtask lint`
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Checks the format first, because it takes a second.
///
/// # Errors
/// When something is not as it should be; the findings are on the terminal.
pub(crate) fn run(_: &Args) -> Result<()> {
    command::shown(&mut format())?;
    command::shown(&mut clippy())?;
    if command::find("cargo-deny").is_none() {
        println!("dependencies not checked (cargo install --locked cargo-deny)");
        return Ok(());
    }
    command::shown(&mut dependencies())
}

/// The command that finds code that `cargo fmt` would change.
pub(crate) fn format() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    cargo
}

/// The command that compares the dependencies with `deny.toml`, but for advisories, which need the
/// network.
fn dependencies() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["deny", "--locked", "check", "bans", "licenses", "sources"]);
    cargo
}

/// The command that lints every target of every crate.
pub(crate) fn clippy() -> Command {
    let mut cargo = command::workspace_cargo("clippy");
    cargo.args(["--all-targets", "--", "--deny", "warnings"]);
    cargo
}
