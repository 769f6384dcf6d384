//! `cargo xtask generate [--check]`: the files in the repository that are made from others.
//!
//! The custom resources come from the operator's Rust types, `manifests/operator.yaml` from the
//! chart, pages of `docs/reference` from both and from the programs' help. The check also covers
//! what is written by hand about generated things: links, and the reasons of conditions.

mod fields;
mod links;
mod reasons;
mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use self::reference::Files;
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// Where the custom resources are kept: for readers, and for the chart.
const CRD_FOLDERS: [&str; 2] = ["manifests/crd", "charts/larder/files/crds"];
/// The operator without helm.
const OPERATOR: &str = "manifests/operator.yaml";
/// The namespace that `manifests/operator.yaml` installs into.
const NAMESPACE: &str = "larder-system";

/// `cargo xtask generate`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Changes nothing; fails when a file is not current.
    #[arg(long)]
    check: bool,
}

/// Writes what is not current, or says what it would write.
///
/// # Errors
/// When a maker fails; with `--check` also when a file is not current.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check() } else { write() }
}

/// # Errors
/// When a maker fails, or naming what is not current, leads nowhere or is not documented.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root();
    let mut stale = stale(&custom_resources()?, root);
    stale.extend(self::stale(&operator_manifest()?, root));
    stale.extend(self::stale(&reference::pages()?, root));
    let list: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    refuse(&list, "not current", "run `cargo xtask generate` and commit")?;
    refuse(&links::broken(root)?, "broken links", "correct each")?;
    refuse(&reasons::missing(root)?, "undocumented reasons", "describe each")
}

/// # Errors
/// When `list` holds anything.
fn refuse(list: &[String], what: &str, remedy: &str) -> Result<()> {
    if list.is_empty() { Ok(()) } else { bail!("{what}: {} ({remedy})", list.join(", ")) }
}

fn write() -> Result<()> {
    // The manifest and the pages are made from the resources, so these are written first.
    update(&custom_resources()?)?;
    update(&operator_manifest()?)?;
    update(&reference::pages()?)?;
    reference::write_metrics()
}

fn update(files: &Files) -> Result<()> {
    let root = workspace::root();
    for path in stale(files, root) {
        let file = root.join(&path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        match files.get(&path) {
            Some(text) => fs::write(&file, text)?,
            None => fs::remove_file(&file)?,
        }
        println!("updated {}", path.display());
    }
    Ok(())
}

/// The paths whose text differs, is missing, or (in a folder of resources) has no maker any more.
fn stale(made: &Files, root: &Path) -> Vec<PathBuf> {
    let mut stale: Vec<PathBuf> = made
        .iter()
        .filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text))
        .map(|(path, _)| path.clone())
        .collect();
    for folder in
        CRD_FOLDERS.iter().filter(|folder| made.keys().any(|made| made.starts_with(folder)))
    {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            let path = Path::new(folder).join(entry.file_name());
            if !made.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    stale
}

/// What the operator says its resources are.
fn custom_resources() -> Result<Files> {
    let folder = tempfile::tempdir()?;
    let mut operator = Command::new(command::program("larder-operator")?);
    command::shown(operator.args(["crd", "--output"]).arg(folder.path()))?;
    let mut files = Files::new();
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())
            .with_context(|| format!("read {}", entry.path().display()))?;
        for folder in CRD_FOLDERS {
            files.insert(Path::new(folder).join(entry.file_name()), text.clone());
        }
    }
    if files.is_empty() {
        bail!("`larder-operator crd` wrote nothing");
    }
    Ok(files)
}

/// The chart with its default values, as one file.
fn operator_manifest() -> Result<Files> {
    let chart = workspace::root().join("charts/larder");
    let helm = tools::ensure(&[Tool::Helm])?;
    let mut template = Command::new(helm.path(Tool::Helm));
    template.args(["template", "larder"]).arg(&chart);
    template.args(["--namespace", NAMESPACE, "--skip-tests"]);
    let text = command::output(&mut template)?;
    let head = format!(
        "# The operator without helm, made from charts/larder by `cargo xtask generate`.\n\
         # kubectl create namespace {NAMESPACE}; kubectl apply --server-side -f {OPERATOR}\n"
    );
    Ok(Files::from([(PathBuf::from(OPERATOR), head + &text)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_an_orphaned_file_are_stale() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("manifests/crd");
        fs::create_dir_all(&folder).expect("made");
        for (name, text) in [("same.yaml", "a"), ("changed.yaml", "old"), ("orphan.yaml", "a")] {
            fs::write(folder.join(name), text).expect("written");
        }
        let path = |name: &str| Path::new("manifests/crd").join(name);
        let made = Files::from([
            (path("same.yaml"), "a".into()),
            (path("changed.yaml"), "new".into()),
            (path("missing.yaml"), "a".into()),
        ]);
        let expected = [path("changed.yaml"), path("missing.yaml"), path("orphan.yaml")];
        assert_eq!(stale(&made, root.path()), expected);
    }
}
