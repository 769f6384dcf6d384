//! Writes a container image as a docker-archive: a tar file for `docker load`, `podman load` and
//! `ctr images import`. The image has one layer and no base image, and is reproducible: the same
//! input gives the same bytes.
//!
//! It never builds the programs of an image, and never talks to a registry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The contents of an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// Name and tag, as in a pod's `image`.
    pub(crate) name: String,
    /// Other names of the same image.
    pub(crate) aliases: Vec<String>,
    /// Executable files: the path on this machine, and the absolute path in the image.
    pub(crate) programs: Vec<(PathBuf, String)>,
    /// Other files: their contents, and the absolute path in the image.
    pub(crate) files: Vec<(Vec<u8>, String)>,
    /// The command that a container runs.
    pub(crate) entrypoint: Vec<String>,
    /// The user of the command, as `uid:gid`.
    pub(crate) user: String,
    /// Labels in the image's configuration.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Writes the image to a temporary file in the same folder and renames it to `file`.
///
/// # Errors
/// When a program cannot be read or the archive cannot be written.
pub(crate) fn write(image: &Image, file: &Path) -> Result<()> {
    let layer = layer(image)?;
    let digest = hex(&Sha256::digest(&layer));
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        // A fixed time, so that the same input gives the same digest.
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": image.entrypoint, "User": image.user, "WorkingDir": "/",
            "Labels": image.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let layer_name = format!("{digest}.tar");
    let names: Vec<&String> = [&image.name].into_iter().chain(&image.aliases).collect();
    let manifest =
        json!([{"Config": config_name, "RepoTags": names, "Layers": [layer_name]}]).to_string();

    let unfinished = file.with_extension("unfinished");
    let mut archive = Builder::new(BufWriter::new(
        File::create(&unfinished)
            .with_context(|| format!("could not write {}", unfinished.display()))?,
    ));
    append(&mut archive, &layer_name, 0o644, &layer)?;
    append(&mut archive, &config_name, 0o644, config.as_bytes())?;
    append(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
    archive.into_inner()?.flush()?;
    fs::rename(&unfinished, file).with_context(|| format!("could not write {}", file.display()))
}

/// The layer, with the folders above each file.
fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut folders: Vec<String> = vec![];
    for (from, to) in &image.programs {
        let bytes = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        append_below(&mut layer, &mut folders, to, 0o755, &bytes)?;
    }
    for (bytes, to) in &image.files {
        append_below(&mut layer, &mut folders, to, 0o644, bytes)?;
    }
    Ok(layer.into_inner()?)
}

/// Appends a file, after those folders above it that `folders` does not contain yet.
fn append_below<W: Write>(
    layer: &mut Builder<W>,
    folders: &mut Vec<String>,
    to: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let inside = to.trim_start_matches('/');
    for folder in Path::new(inside).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let name = format!("{}/", folder.display());
        if name != "/" && !folders.contains(&name) {
            layer.append_data(&mut header(EntryType::Directory, 0o755, 0), &name, io::empty())?;
            folders.push(name);
        }
    }
    append(layer, inside, mode, bytes)
}

fn append<W: Write>(tar: &mut Builder<W>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    tar.append_data(&mut header(EntryType::Regular, mode, bytes.len() as u64), name, bytes)?;
    Ok(())
}

/// A header without time and owner, so that equal contents give equal archives.
fn header(kind: EntryType, mode: u32, size_bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size_bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// This machine's architecture, as image configurations name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(bytes)
            .entries()
            .expect("a tar")
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let name = entry.path().expect("a name").display().to_string();
                let mut bytes = vec![];
                entry.read_to_end(&mut bytes).expect("its bytes");
                (name, bytes)
            })
            .collect()
    }

    #[test]
    fn an_archive_names_its_layer_by_the_digest_of_the_layer() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        fs::write(&program, "code").expect("written");
        let image = Image {
            name: "larder/thing:dev".into(),
            aliases: vec!["larder/thing:1".into()],
            programs: vec![(program, "/usr/bin/thing".into())],
            entrypoint: vec!["/usr/bin/thing".into()],
            user: "65532:65532".into(),
            files: vec![(b"roots".to_vec(), "/etc/ssl/certs/ca.crt".into())],
            labels: BTreeMap::from([("version".into(), "1".into())]),
        };
        let (first, second) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
        write(&image, &first).expect("written");
        write(&image, &second).expect("written");
        let bytes = fs::read(&first).expect("read");
        assert_eq!(bytes, fs::read(&second).expect("read"), "two writes differ");

        let outer = entries(&bytes);
        let manifest: serde_json::Value =
            serde_json::from_slice(&outer["manifest.json"]).expect("JSON");
        assert_eq!(manifest[0]["RepoTags"][0], "larder/thing:dev");
        assert_eq!(manifest[0]["RepoTags"][1], "larder/thing:1");
        let layer = &outer[manifest[0]["Layers"][0].as_str().expect("a name")];
        let config: serde_json::Value =
            serde_json::from_slice(&outer[manifest[0]["Config"].as_str().expect("a name")])
                .expect("JSON");
        let digest = format!("sha256:{}", hex(&Sha256::digest(layer)));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
        assert_eq!(config["config"]["User"], "65532:65532");

        let inner = entries(layer);
        assert_eq!(inner["usr/bin/thing"], b"code");
        assert_eq!(inner["etc/ssl/certs/ca.crt"], b"roots");
        assert_eq!(config["config"]["Labels"]["version"], "1");
        assert!(inner.contains_key("usr/") && inner.contains_key("usr/bin/"));
    }
}
