//! `cargo xtask image`: the container images, from static programs, FROM scratch, each written as
//! a docker-archive.
//!
//! It needs no container engine and never talks to a registry. Same sources, same digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::docker_archive::{self, Image};
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// The registry part of every name: containerd stores a bare name under it.
const REGISTRY: &str = "docker.io/library";
/// The tag of images that were made here.
const TAG: &str = "dev";
/// Who runs them: no user of any machine.
const USER: &str = "65532:65532";
/// Where rustls' platform verifier looks for the roots that HTTPS origins are checked against.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `cargo xtask image`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder for the archives; target/images unless given.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// A written image.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    /// Its name with its tag, as pods write it.
    pub(crate) name: String,
    /// The docker-archive.
    pub(crate) file: PathBuf,
}

/// Builds and writes all images, and prints where they are and how big.
///
/// # Errors
/// When a program cannot be built or an archive cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    show(&build(args.output.as_deref())?)
}

/// Prints where images are and how big.
///
/// # Errors
/// When one is not there.
pub(crate) fn show(archives: &[Archive]) -> Result<()> {
    for archive in archives {
        let kilobytes = u32::try_from(fs::metadata(&archive.file)?.len() / 1000)?;
        let megabytes = f64::from(kilobytes) / 1000.0;
        println!("{:<44}{megabytes:>7.1} MB  {}", archive.name, archive.file.display());
    }
    Ok(())
}

/// As [`run`], for verbs that go on to load them.
///
/// # Errors
/// As [`run`].
pub(crate) fn build(output: Option<&Path>) -> Result<Vec<Archive>> {
    let folder = output.map_or_else(|| workspace::target().join("images"), Path::to_path_buf);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let ours = programs()?;
    let etcd = tools::ensure(&[Tool::Etcd])?;
    let mut archives = Vec::new();
    for (name, programs) in [
        ("larder-node", vec![ours.join("larder-node")]),
        ("larder-operator", vec![ours.join("larder-operator")]),
        ("larder", vec![ours.join("larder")]),
        ("larder-etcd", vec![etcd.path(Tool::Etcd).to_path_buf()]),
    ] {
        let image = image(name, programs);
        let file = folder.join(format!("{name}.tar"));
        docker_archive::write(&image, &file)?;
        archives.push(Archive { name: image.name, file });
    }
    Ok(archives)
}

/// The product's programs as the images hold them; the folder in which they are.
///
/// # Errors
/// When they cannot be built; cargo has said why.
pub(crate) fn programs() -> Result<PathBuf> {
    compile(&["larder-node", "larder-operator", "larder-cli"])
}

/// Builds all programs of some crates, static, in the release profile.
///
/// # Errors
/// As [`programs`].
pub(crate) fn compile(packages: &[&str]) -> Result<PathBuf> {
    let target = target();
    let names = packages.join(", ");
    println!("building {names}; the first time takes five to ten minutes on two cores");
    let begin = Instant::now();
    let mut cargo = command::cargo();
    cargo.args(["build", "--release", "--bins", "--target", &target]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    // Flags of a named target reach no build script and leave the caches of other builds alone. The
    // project's path must not be in the programs, or two clones give two digests.
    cargo.arg("--config").arg(format!(
        "target.{target}.rustflags=[\"-Ctarget-feature=+crt-static\",\
         \"--remap-path-prefix={}=/larder\"]",
        workspace::root().display()
    ));
    command::shown(&mut cargo)?;
    println!("built in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(folder())
}

/// Where [`compile`] leaves programs.
pub(crate) fn folder() -> PathBuf {
    workspace::target().join(target()).join("release")
}

/// The machine's own, named: flags for a named target leave build scripts alone.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The programs at the root of the file system; the first is what a container runs.
fn image(name: &str, programs: Vec<PathBuf>) -> Image {
    let at_root: Vec<(PathBuf, String)> = programs
        .into_iter()
        .map(|file| {
            let program = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (file, format!("/{program}"))
        })
        .collect();
    let label = |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.into());
    Image {
        name: format!("{REGISTRY}/{name}:{TAG}"),
        // What the operator and the chart take when nobody names an image.
        aliases: vec![format!("{REGISTRY}/{name}:{}", env!("CARGO_PKG_VERSION"))],
        entrypoint: at_root.first().map(|(_, inside)| inside.clone()).into_iter().collect(),
        programs: at_root,
        files: vec![(roots().into_bytes(), ROOTS.into())],
        user: USER.into(),
        labels: BTreeMap::from([
            label("title", name),
            label("version", env!("CARGO_PKG_VERSION")),
            label("licenses", "Apache-2.0"),
        ]),
    }
}

/// Mozilla's roots as PEM. From a crate, not from this machine, so that a digest does not depend
/// on where an image was made.
fn roots() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let digits = STANDARD.encode(certificate);
        for line in digits.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_whole_pem_blocks() {
        let text = roots();
        let begun = text.matches("-----BEGIN CERTIFICATE-----").count();
        assert!(begun > 100, "only {begun} roots");
        assert_eq!(begun, text.matches("-----END CERTIFICATE-----").count());
        assert!(text.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn the_first_program_is_what_a_container_runs() {
        let image = image("larder-etcd", vec!["/x/etcd".into(), "/x/tool".into()]);
        assert_eq!(image.name, "docker.io/library/larder-etcd:dev");
        assert_eq!(image.entrypoint, ["/etcd"]);
        assert_eq!(image.programs[1].1, "/tool");
        assert_eq!(image.user, "65532:65532");
    }
}
