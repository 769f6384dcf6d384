//! `kube load`: imports docker-archives into the nodes. An image that a node has already under the
//! same name is skipped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::plan::{Node, Plan};
use crate::command;

/// Imports each archive into every node that lacks its image, all nodes at once. Returns the names
/// of the images that some node lacked.
///
/// # Errors
/// When an archive cannot be read, or containerd refuses it.
pub(crate) fn into_all_nodes(plan: &Plan, archives: &[PathBuf]) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for archive in archives {
        let file = archive.canonicalize().with_context(|| format!("find {}", archive.display()))?;
        images.push((Identity::read(&file)?, file));
    }
    let images = &images;
    let loaded = thread::scope(|scope| {
        let nodes: Vec<_> =
            plan.nodes.iter().map(|node| scope.spawn(|| load_missing(*node, images))).collect();
        let done = nodes.into_iter().map(|node| node.join().expect("it returns its errors"));
        done.collect::<Result<Vec<_>>>()
    })?;
    let mut names: Vec<String> = loaded.into_iter().flatten().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Imports one archive into one node.
///
/// # Errors
/// The output of containerd's client.
pub(crate) fn into_node(node: Node, archive: &Path) -> Result<()> {
    command::output(ctr(node).args(["images", "import"]).arg(archive))
        .with_context(|| format!("load {} into {}", archive.display(), node.name()))?;
    Ok(())
}

/// containerd's client for one node.
pub(crate) fn ctr(node: Node) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(node.containerd_socket()).args(["--namespace", "k8s.io"]);
    ctr
}

/// The archives in a folder, sorted by name.
///
/// # Errors
/// When there are none.
pub(crate) fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "tar")).collect();
    found.sort();
    if found.is_empty() {
        bail!("no images in {}: run `cargo xtask image` first", folder.display());
    }
    Ok(found)
}

fn load_missing(node: Node, images: &[(Identity, PathBuf)]) -> Result<Vec<String>> {
    let manifests = manifests(&command::output(ctr(node).args(["images", "list"]))?);
    let read = |manifest: &str| command::output(ctr(node).args(["content", "get", manifest])).ok();
    let mut loaded = Vec::new();
    for (image, file) in images {
        if !image.is_present(&manifests, read) {
            into_node(node, file)?;
            loaded.extend(image.names.first().cloned());
        }
    }
    Ok(loaded)
}

/// Digest of the manifest of each image name, from the table of `ctr images list`: name, media
/// type, digest, ...
fn manifests(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
    });
    rows.collect()
}

/// What a docker-archive contains: one image under one or more names.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    names: Vec<String>,
    /// Digest of the image's configuration, which contains the digests of its layers.
    config: String,
}

impl Identity {
    fn read(archive: &Path) -> Result<Self> {
        let unreadable = || format!("{} is not a docker-archive", archive.display());
        let mut tar = tar::Archive::new(File::open(archive).with_context(unreadable)?);
        for entry in tar.entries_with_seek().with_context(unreadable)? {
            let mut entry = entry.with_context(unreadable)?;
            if entry.path()?.as_os_str() == "manifest.json" {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                return Self::parse(&text).with_context(unreadable);
            }
        }
        bail!(unreadable())
    }

    fn parse(manifest: &str) -> Option<Self> {
        let manifest: Value = serde_json::from_str(manifest).ok()?;
        let image = manifest.get(0)?;
        let names = image["RepoTags"].as_array()?.iter().filter_map(Value::as_str);
        let config = image["Config"].as_str()?.strip_suffix(".json")?;
        Some(Self { names: names.map(str::to_owned).collect(), config: format!("sha256:{config}") })
    }

    /// Whether a node with these manifests has the image under all its names. `read` returns a
    /// manifest.
    fn is_present(
        &self,
        manifests: &BTreeMap<String, String>,
        read: impl Fn(&str) -> Option<String>,
    ) -> bool {
        let Some(manifest) = self.names.first().and_then(|name| manifests.get(name)) else {
            return false;
        };
        let text = read(manifest).unwrap_or_default();
        let content: Value = serde_json::from_str(&text).unwrap_or_default();
        content["config"]["digest"] == self.config.as_str()
            && self.names.iter().all(|name| manifests.get(name) == Some(manifest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker_archive::{self, Image};

    const TABLE: &str = "\
REF TYPE DIGEST SIZE PLATFORMS LABELS
docker.io/library/a:1 application/vnd.oci.image.manifest.v1+json sha256:m2 9.0 MiB linux/amd64 -
docker.io/library/a:dev application/vnd.oci.image.manifest.v1+json sha256:m2 9.0 MiB linux/amd64 -
docker.io/library/b:dev application/vnd.oci.image.manifest.v1+json sha256:m3 9.0 MiB linux/amd64 -
";

    #[test]
    fn an_image_is_present_when_all_its_names_have_its_content() {
        let manifests = manifests(TABLE);
        let read = |manifest: &str| {
            (manifest == "sha256:m2").then(|| r#"{"config":{"digest":"sha256:new"}}"#.to_owned())
        };
        let present = |names: &[&str], config: &str| {
            let names = names.iter().map(|name| format!("docker.io/library/{name}")).collect();
            Identity { names, config: config.into() }.is_present(&manifests, read)
        };
        assert!(present(&["a:dev", "a:1"], "sha256:new"));
        assert!(!present(&["a:dev"], "sha256:old"), "the name belongs to other content");
        assert!(!present(&["a:dev", "b:dev"], "sha256:new"), "one name belongs to another image");
        assert!(!present(&["a:dev", "a:2"], "sha256:new"), "one name is missing");
        assert!(!present(&["b:dev"], "sha256:new"), "the manifest cannot be read");
    }

    #[test]
    fn an_archive_is_identified_without_reading_its_layers() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(archives(folder.path()).is_err(), "there is nothing to load");
        let program = folder.path().join("program");
        fs::write(&program, "code").expect("written");
        let made = Image {
            name: "larder/thing:dev".into(),
            programs: vec![(program.clone(), "/thing".into())],
            ..Image::default()
        };
        let file = folder.path().join("thing.tar");
        let write = || {
            docker_archive::write(&made, &file).expect("written");
            Identity::read(&file).expect("an archive")
        };
        let first = write();
        assert_eq!(first.names, ["larder/thing:dev"]);
        assert_eq!(first, write(), "the same program gives the same identity");
        fs::write(&program, "other code").expect("written");
        assert_ne!(first.config, write().config);
        assert_eq!(archives(folder.path()).expect("one archive"), [file]);
    }
}
