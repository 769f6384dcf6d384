//! Compares the dependencies between the workspace's crates with their drawing in ARCHITECTURE.md.
//!
//! Dev-dependencies do not count: tests may use crates that the crate itself must not, such as the
//! in-memory registry. Build dependencies count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{command, workspace};

/// How the line above the drawing begins.
const TITLE: &str = "Dependencies between crates";

/// A crate of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    /// Its name without `larder-`.
    pub(super) name: String,
    /// Its folder, relative to the workspace.
    pub(super) folder: String,
    /// The roots of its library and programs, relative to the workspace.
    pub(super) targets: Vec<String>,
    /// Names of the crates of the workspace that it depends on.
    pub(super) dependencies: BTreeSet<String>,
}

/// The part of `cargo metadata`'s output that is used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: String,
    targets: Vec<MetadataTarget>,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    kind: Vec<String>,
    src_path: String,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    /// None for a normal dependency.
    kind: Option<String>,
}

/// The crates of the workspace.
///
/// # Errors
/// When `cargo metadata` fails.
pub(super) fn packages() -> Result<Vec<Package>> {
    let mut cargo = command::cargo();
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata: Metadata = serde_json::from_str(&command::output(&mut cargo)?)
        .context("could not read what `cargo metadata` printed")?;
    let names: BTreeSet<&str> = metadata.packages.iter().map(|one| one.name.as_str()).collect();
    Ok(metadata.packages.iter().map(|package| Package::from_metadata(package, &names)).collect())
}

impl Package {
    fn from_metadata(package: &MetadataPackage, names: &BTreeSet<&str>) -> Self {
        let folder = Path::new(&package.manifest_path).parent().unwrap_or(Path::new(""));
        let is_product = |target: &&MetadataTarget| {
            target.kind.iter().any(|kind| matches!(kind.as_str(), "lib" | "bin" | "proc-macro"))
        };
        let counts = |dependency: &&MetadataDependency| {
            names.contains(dependency.name.as_str()) && dependency.kind.as_deref() != Some("dev")
        };
        Self {
            name: short(&package.name).to_owned(),
            folder: relative(folder),
            targets: package
                .targets
                .iter()
                .filter(is_product)
                .map(|target| relative(Path::new(&target.src_path)))
                .collect(),
            dependencies: package
                .dependencies
                .iter()
                .filter(counts)
                .map(|dependency| short(&dependency.name).to_owned())
                .collect(),
        }
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("larder-").unwrap_or(name)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}

/// One finding for each dependency that is not drawn, each drawn one that does not exist, and each
/// crate that the drawing omits or invents.
pub(super) fn findings(packages: &[Package], architecture: &str) -> Vec<String> {
    let drawn = match drawing(architecture) {
        Ok(drawn) => drawn,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    for package in packages {
        let (name, real) = (&package.name, &package.dependencies);
        let Some(drawn) = drawn.get(name) else {
            findings.push(format!(
                "ARCHITECTURE.md does not draw the crate {name}: add it under \"{TITLE}\""
            ));
            continue;
        };
        findings.extend(real.difference(drawn).map(|other| {
            format!(
                "{name} -> {other} is a dependency that ARCHITECTURE.md does not draw: remove it \
                 from {}/Cargo.toml, or draw it with its reason in the same commit",
                package.folder
            )
        }));
        findings.extend(drawn.difference(real).map(|other| {
            format!(
                "{name} -> {other} is drawn in ARCHITECTURE.md but no dependency in {}/Cargo.toml: \
                 remove it from the drawing",
                package.folder
            )
        }));
    }
    let real: BTreeSet<&String> = packages.iter().map(|package| &package.name).collect();
    findings.extend(drawn.keys().filter(|name| !real.contains(name)).map(|name| {
        format!("ARCHITECTURE.md draws {name}, which is no crate of the workspace: remove it")
    }));
    findings
}

/// Reads the fenced block under the title: `a, b -> c, d (a remark)`, or several of these on a line,
/// separated by two or more spaces or by a semicolon and these. `no …` on the right means no
/// dependency. Lines that begin with `inside` draw modules, not crates.
///
/// # Errors
/// A finding: the block is missing, or a part of it has no arrow.
fn drawing(architecture: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let block = fenced_block(architecture).ok_or_else(|| {
        format!(
            "ARCHITECTURE.md has no fenced block under a line that begins with \"{TITLE}\": draw \
             each crate there, as `client -> ring, proto`"
        )
    })?;
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in block.lines().filter(|line| !line.trim_start().starts_with("inside ")) {
        for statement in line.split("  ").map(trim).filter(|part| !part.is_empty()) {
            let (from, to) = statement.split_once("->").ok_or_else(|| {
                format!("ARCHITECTURE.md, under \"{TITLE}\": \"{statement}\" has no `->`")
            })?;
            let to: BTreeSet<String> =
                if to.trim().starts_with("no ") { BTreeSet::new() } else { list(to).collect() };
            for name in list(from) {
                drawn.entry(name).or_default().extend(to.iter().cloned());
            }
        }
    }
    Ok(drawn)
}

fn trim(statement: &str) -> &str {
    statement.trim().trim_end_matches(';')
}

fn fenced_block(architecture: &str) -> Option<&str> {
    let (_, below) = architecture.split_once(TITLE)?;
    let (_, block) = below.split_once("```\n")?;
    Some(block.split_once("```")?.0)
}

/// The names of `a, b (a remark)`.
fn list(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|name| name.split('(').next().unwrap_or(name).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            folder: name.to_owned(),
            targets: Vec::new(),
            dependencies: dependencies.iter().map(ToString::to_string).collect(),
        }
    }

    fn check(packages: &[Package], block: &str) -> Vec<String> {
        findings(packages, &format!("# Text\n{TITLE}:\n```\n{block}\n```\nmore\n"))
    }

    fn house() -> Vec<Package> {
        vec![
            package("node", &["ring", "client"]),
            package("client", &["ring"]),
            package("ring", &[]),
        ]
    }

    #[test]
    fn a_drawing_of_all_dependencies_has_no_findings() {
        let block = "node -> ring, client (as a sidecar);      client -> ring\n\
                     ring -> no workspace crate\n\
                     inside node:      app -> {grpc, http} -> cache";
        assert_eq!(check(&house(), block), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_that_is_not_drawn_is_a_finding() {
        let found = check(&house(), "node -> client    client -> ring    ring -> no crate");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("node -> ring is a dependency that"), "{found:?}");
    }

    #[test]
    fn a_drawn_dependency_that_does_not_exist_is_a_finding() {
        let found = check(&house(), "node -> client, ring    client -> ring    ring -> node");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("ring -> node is drawn"), "{found:?}");
    }

    #[test]
    fn a_crate_that_is_not_drawn_and_one_that_does_not_exist_are_findings() {
        let found = check(&house(), "node -> ring, client    client -> ring    wire -> no crate");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("does not draw the crate ring"), "{found:?}");
        assert!(found[1].contains("draws wire"), "{found:?}");
    }

    #[test]
    fn a_drawing_that_is_missing_or_cannot_be_read_is_a_finding() {
        assert!(findings(&house(), "# Text\n")[0].contains("no fenced block"));
        assert!(check(&house(), "node  -> ring")[0].contains("\"node\" has no `->`"));
    }

    #[test]
    fn dev_dependencies_and_external_crates_do_not_count() {
        let metadata: MetadataPackage = serde_json::from_value(serde_json::json!({
            "name": "larder-node",
            "manifest_path": workspace::root().join("node/Cargo.toml"),
            "targets": [
                { "kind": ["lib"], "src_path": workspace::root().join("node/src/lib.rs") },
                { "kind": ["test"], "src_path": workspace::root().join("node/tests/cluster.rs") },
            ],
            "dependencies": [
                { "name": "larder-ring", "kind": null },
                { "name": "larder-proto", "kind": "build" },
                { "name": "larder-registry", "kind": "dev" },
                { "name": "tokio", "kind": null },
            ],
        }))
        .expect("it has the fields of cargo metadata");
        let names = ["larder-ring", "larder-proto", "larder-registry"];
        let package = Package::from_metadata(&metadata, &names.into_iter().collect());
        assert_eq!((package.name.as_str(), package.folder.as_str()), ("node", "node"));
        assert_eq!(package.targets, ["node/src/lib.rs"]);
        let dependencies: Vec<String> = package.dependencies.into_iter().collect();
        assert_eq!(dependencies, ["proto", "ring"]);
    }
}
