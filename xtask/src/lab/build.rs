//! How the laboratory is built.

use std::path::Path;
use std::process::Command;

use crate::{command, workspace};

/// Cargo in the laboratory's folder of a source tree, where it reads the flags of that workspace.
/// Its target folder is apart, so that neither build discards the other's results.
pub(super) fn cargo(root: &Path) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(root.join("lab"));
    cargo.env("CARGO_TARGET_DIR", workspace::target().join("lab"));
    cargo
}
