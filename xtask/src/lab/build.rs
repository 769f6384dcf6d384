//! How the laboratory is built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, workspace};

/// Cargo for the laboratory of a source tree, optimised: it runs many worlds.
pub(super) fn cargo(root: &Path, verb: &str) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(root).env("CARGO_TARGET_DIR", workspace::target());
    cargo.args([verb, "--quiet", "--locked", "--profile", "lab", "--package", "larder-lab"]);
    cargo
}

/// The program that [`cargo`] builds.
pub(super) fn program() -> PathBuf {
    workspace::target().join("lab/larder-lab")
}
