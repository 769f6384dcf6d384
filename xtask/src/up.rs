//! `cargo xtask up`: builds the `larder` command and runs `larder up`.
//!
//! After the build, the program replaces this process, so that Ctrl-C and the exit code are its own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// `cargo xtask up`
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options of `larder up`; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds, then runs in place of this process.
///
/// # Errors
/// When the build fails, or the program cannot be started.
pub(crate) fn run(args: Args) -> Result<()> {
    let program = build()?;
    let mut larder = Command::new(&program);
    larder.arg("up").args(args.arguments);
    Err(larder.exec()).with_context(|| format!("could not start {}", program.display()))
}

/// Builds the `larder` command and returns its path.
///
/// # Errors
/// When the build fails; cargo has printed the cause.
pub(crate) fn build() -> Result<PathBuf> {
    if !workspace::target().join("debug").join("larder").exists() {
        // The dev profile: an optimised build takes twice as long and gains nothing here.
        println!("building larder; the first time takes three to six minutes on two cores");
    }
    command::program("larder")
}
