//! `cargo xtask lab bugs`: plants each patch of `lab/bugs` into a copy of the sources, builds the
//! laboratory there, and runs it until a rule breaks.
//!
//! The copy is a git worktree of the last commit with the tracked changes since. A bug counts as
//! found only by a seed at which the sources without the bug keep every rule.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::build::{cargo, program};
use crate::{command, workspace};

/// `cargo xtask lab bugs`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seeds after which a bug counts as not found.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Plants only the bugs whose names contain one of these.
    filters: Vec<String>,
}

/// One patch.
struct Bug {
    name: String,
    /// The first line of the file, above the patch.
    what: String,
    patch: PathBuf,
}

/// Where and how a rule broke.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    seed: u64,
    check: String,
}

/// A worktree, removed on drop.
struct Copy {
    folder: PathBuf,
    commit: String,
}

/// Looks for every bug, and prints a table.
///
/// # Errors
/// When a bug is not found, or a patch no longer applies.
pub(super) fn run(args: &Args) -> Result<()> {
    let bugs = bugs(&args.filters)?;
    ensure!(!bugs.is_empty(), "no patch of lab/bugs has such a name");
    let copy = Copy::make()?;
    build(&copy.folder)?;
    let broken_already = failing_seeds(&copy.folder, args.seeds)?;
    if !broken_already.is_empty() {
        println!("{} seeds fail without a bug, and are left out", broken_already.len());
    }
    let mut needed = Vec::new();
    let mut missed = Vec::new();
    println!("{:<28} {:>7}  {:<20} what was planted", "bug", "seeds", "broken rule");
    for bug in &bugs {
        copy.plant(bug)?;
        build(&copy.folder).with_context(|| format!("build with the bug {}", bug.name))?;
        match first_failure(&copy.folder, args.seeds, &broken_already)? {
            Some(Found { seed, check }) => {
                needed.push(seed + 1);
                println!("{:<28} {:>7}  {:<20} {}", bug.name, seed + 1, check, bug.what);
            }
            None => {
                missed.push(bug.name.as_str());
                println!("{:<28} {:>7}  {:<20} {}", bug.name, "-", "NOT FOUND", bug.what);
            }
        }
    }
    needed.sort_unstable();
    if let Some(median) = needed.get(needed.len() / 2) {
        println!("{} of {} found; median of the seeds: {median}", needed.len(), bugs.len());
    }
    ensure!(missed.is_empty(), "not found within {} seeds: {}", args.seeds, missed.join(", "));
    Ok(())
}

fn bugs(filters: &[String]) -> Result<Vec<Bug>> {
    let folder = workspace::root().join("lab/bugs");
    let mut bugs = Vec::new();
    for file in fs::read_dir(&folder).context("read lab/bugs")? {
        let patch = file?.path();
        if patch.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let name = patch.file_stem().expect("it has an extension").to_string_lossy().into_owned();
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
            let text = fs::read_to_string(&patch)?;
            let what = text.lines().next().unwrap_or_default().to_owned();
            bugs.push(Bug { name, what, patch });
        }
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

/// Without optimization of the crate that most bugs are in: a bug takes few worlds and one build.
fn build(root: &Path) -> Result<()> {
    let mut cargo = cargo(root, "build");
    // Only a few functions differ between two builds.
    cargo.args(["--config", "profile.lab.incremental=true"]);
    cargo.args(["--config", "profile.lab.package.larder-node.opt-level=0"]);
    command::output(&mut cargo).map(|_| ())
}

/// Runs the program that [`build`] made.
fn laboratory(seeds: u64) -> Command {
    let mut lab = Command::new(program());
    lab.args(["--brief", "--seeds", &seeds.to_string()]);
    lab
}

/// The seeds that fail without a bug.
fn failing_seeds(root: &Path, seeds: u64) -> Result<Vec<u64>> {
    let lines = printed(laboratory(seeds).arg("--keep-going").current_dir(root))?;
    Ok(lines.iter().filter_map(|line| parse(line)).map(|found| found.seed).collect())
}

fn first_failure(root: &Path, seeds: u64, skip: &[u64]) -> Result<Option<Found>> {
    let mut lab = laboratory(seeds);
    for seed in skip {
        lab.args(["--skip", &seed.to_string()]);
    }
    let lines = printed(lab.current_dir(root))?;
    Ok(lines.first().and_then(|line| parse(line)))
}

/// What a program prints, whatever its exit code: a found bug is a failure there.
fn printed(lab: &mut Command) -> Result<Vec<String>> {
    let output = lab.stderr(Stdio::inherit()).output().context("start the laboratory")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        bail!("the laboratory printed nothing and ended with {}", output.status);
    }
    Ok(lines)
}

/// Reads `SEED<tab>CHECK<tab>TEXT`; `None` for `none`.
fn parse(line: &str) -> Option<Found> {
    let mut parts = line.split('\t');
    let seed = parts.next()?.parse().ok()?;
    Some(Found { seed, check: parts.next()?.to_owned() })
}

impl Copy {
    fn make() -> Result<Self> {
        let folder = workspace::target().join("lab-bugs");
        let git = |arguments: &[&str]| {
            command::output(Command::new("git").current_dir(workspace::root()).args(arguments))
        };
        // A commit of the tracked changes, which changes neither branch nor files; empty without
        // changes.
        let changed = git(&["stash", "create"])?.trim().to_owned();
        let commit = if changed.is_empty() { "HEAD".to_owned() } else { changed };
        let commit = git(&["rev-parse", &commit])?.trim().to_owned();
        let path = folder.display().to_string();
        if folder.exists() {
            git(&["worktree", "remove", "--force", &path])?;
        }
        git(&["worktree", "add", "--quiet", "--detach", &path, &commit])?;
        Ok(Self { folder, commit })
    }

    /// The sources with this bug only.
    fn plant(&self, bug: &Bug) -> Result<()> {
        let git = |arguments: &[&str]| {
            command::output(Command::new("git").current_dir(&self.folder).args(arguments))
        };
        git(&["checkout", "--quiet", "--force", &self.commit])?;
        let patch = bug.patch.display().to_string();
        git(&["apply", "--recount", &patch])
            .with_context(|| format!("{} no longer applies: write it anew", bug.name))?;
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let mut git = Command::new("git");
        git.current_dir(workspace::root()).args(["worktree", "remove", "--force"]);
        // What is left costs only space, and the next run removes it.
        _ = git.arg(&self.folder).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_laboratory_is_read() {
        let found = Found { seed: 17, check: "hop".into() };
        assert_eq!(parse("17\thop\tm1 forwards g0/k1"), Some(found));
        assert_eq!(parse("none"), None);
    }

    #[test]
    fn every_patch_says_what_it_plants() {
        let bugs = bugs(&[]).expect("lab/bugs");
        assert!(bugs.len() >= 12, "{}", bugs.len());
        for Bug { name, what, .. } in bugs {
            assert!(!what.is_empty() && !what.starts_with("diff"), "{name}");
        }
    }
}
