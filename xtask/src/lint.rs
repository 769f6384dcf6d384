//! `cargo xtask lint`: format, clippy with warnings as errors, one-way imports, and the rules about
//! dependencies where cargo-deny is installed.
//!
//! It never changes a file, and never sets RUSTFLAGS, which would invalidate cargo's caches.

mod circles;
mod crates;
mod modules;
mod names;
mod tokens;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, compile, workspace};

/// Crates, by folder, whose modules may import each other in circles, and why.
const CIRCLES_ALLOWED: &[(&str, &str)] =
    &[("node/engine", "its modules are rearranged together with the engine's redesign")];

/// `cargo xtask lint`
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the checks, fastest first.
///
/// # Errors
/// When a check fails; its findings are on the terminal.
pub(crate) fn run(_: &Args) -> Result<()> {
    command::shown(&mut format())?;
    imports()?;
    compile::workspace()?.check_findings()?;
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

/// Checks that the modules of each crate import each other without circles, and that crates depend
/// on each other as ARCHITECTURE.md draws it.
///
/// # Errors
/// When there are findings, which are printed, or when a file cannot be read or parsed.
pub(crate) fn imports() -> Result<()> {
    let root = workspace::root();
    let packages = crates::packages()?;
    let drawing = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&drawing)
        .with_context(|| format!("could not read {}", drawing.display()))?;
    let mut findings = crates::findings(&packages, &text);
    for package in &packages {
        let mut circles = Vec::new();
        for target in &package.targets {
            let crate_root = root.join(target);
            circles.extend(circles::findings(&modules::Modules::read(&crate_root)?, root));
        }
        findings.extend(allow(&package.folder, circles, CIRCLES_ALLOWED));
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} findings about imports, printed above"),
    }
}

/// The circles of a crate that are findings. An exemption that is no longer needed is one.
fn allow(folder: &str, circles: Vec<String>, allowed: &[(&str, &str)]) -> Vec<String> {
    match allowed.iter().find(|(exempt, _)| *exempt == folder) {
        None => circles,
        Some(_) if !circles.is_empty() => Vec::new(),
        Some((_, reason)) => vec![format!(
            "{folder} has no circles any more: remove it from CIRCLES_ALLOWED in xtask/src/lint.rs \
             (its reason was: {reason})"
        )],
    }
}

/// The command that compares the dependencies with `deny.toml`, except for advisories, which need
/// the network.
fn dependencies() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["deny", "--locked", "check", "bans", "licenses", "sources"]);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exempt_crate_may_have_circles_and_must_need_it() {
        let allowed = [("node/engine", "for now")];
        let circles = || vec!["circle: a.rs, b.rs".to_owned()];
        assert_eq!(allow("node", circles(), &allowed), circles());
        assert!(allow("node/engine", circles(), &allowed).is_empty());
        let stale = allow("node/engine", Vec::new(), &allowed);
        assert!(stale[0].contains("remove it from CIRCLES_ALLOWED"), "{stale:?}");
    }
}
