//! `cargo xtask image`: the container images, FROM scratch, each written as a docker-archive.
//!
//! [`build`] makes the images that are published: static programs of the release profile, the same digest
//! for the same sources. [`build_for_tests`] makes images of the same names from the programs that the
//! workspace's tests use, so that the cluster tests compile nothing of their own. Neither needs a
//! container engine or talks to a registry.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::docker_archive::{self, Image};
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// The registry part of every name: containerd stores a bare name under it.
const REGISTRY: &str = "docker.io/library";
/// The tag of images that were made here.
const TAG: &str = "dev";
/// The images, named as their programs.
const NODE: &str = "larder-node";
const OPERATOR: &str = "larder-operator";
const COMMAND: &str = "larder";
const ETCD: &str = "larder-etcd";
/// The user of every image, who exists on no machine.
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

/// Builds and writes all images, prints where they are and how big, and checks their sizes.
///
/// # Errors
/// When a program cannot be built, an archive cannot be written, or an image is too large.
pub(crate) fn run(args: &Args) -> Result<()> {
    let archives = build(args.output.as_deref())?;
    show(&archives)?;
    for archive in &archives {
        check_size(archive)?;
    }
    Ok(())
}

/// # Errors
/// When an image is larger than it may be. The demo's database makes the command larger than a member;
/// etcd's size is its own.
fn check_size(archive: &Archive) -> Result<()> {
    let limit_mb = match archive.file.file_stem().and_then(OsStr::to_str) {
        Some(NODE | OPERATOR) => 20,
        _ => 30,
    };
    let bytes = fs::metadata(&archive.file)?.len();
    ensure!(
        bytes <= limit_mb * 1_000_000,
        "{} has {bytes} bytes; the limit is {limit_mb} MB",
        archive.name
    );
    Ok(())
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
    let ours = programs()?;
    let archives = [NODE, OPERATOR, COMMAND].map(|name| (name, vec![at_root(&ours.join(name))]));
    write(&output.map_or_else(folder_of_archives, Path::to_path_buf), &archives)
}

/// The same images from programs of the dev profile, for tests: the bytes that the other tests run, less
/// their symbols. They are linked dynamically, so each image holds the libraries that its program loads.
///
/// # Errors
/// When a program cannot be built or an archive cannot be written.
pub(crate) fn build_for_tests() -> Result<Vec<Archive>> {
    let programs = [NODE, OPERATOR, COMMAND];
    let debug = command::programs(&programs)?;
    let folder = workspace::target().join("images-for-tests");
    let stripped = folder.join("programs");
    fs::create_dir_all(&stripped).with_context(|| format!("make {}", stripped.display()))?;
    let mut archives = Vec::new();
    for name in programs {
        let (built, small) = (debug.join(name), stripped.join(name));
        if !is_current(&small, &[&built]) {
            command::output(Command::new("strip").arg("-o").arg(&small).arg(&built))?;
        }
        let mut files = vec![at_root(&small)];
        files.extend(libraries(&small)?);
        archives.push((name, files));
    }
    write(&folder, &archives)
}

/// Files of an image: each one here, and its whole path inside. The first is the program to run.
type Files = Vec<(PathBuf, String)>;

/// Writes our images and etcd's into a folder, unless they are there and newer than all they are made of.
fn write(folder: &Path, ours: &[(&str, Files)]) -> Result<Vec<Archive>> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let etcd = vec![at_root(tools::ensure(&[Tool::Etcd])?.path(Tool::Etcd))];
    let mut archives = Vec::new();
    for (name, files) in ours.iter().chain([&(ETCD, etcd)]) {
        let image = image(name, files.clone());
        let archive =
            Archive { name: image.name.clone(), file: folder.join(format!("{name}.tar")) };
        // This program decides what else an image holds. A newer build may have replaced its file.
        let this = Path::new("/proc/self/exe");
        let sources = files.iter().map(|(file, _)| file.as_path()).chain([this]);
        if !is_current(&archive.file, &sources.collect::<Vec<_>>()) {
            docker_archive::write(&image, &archive.file)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}

/// True when `made` is there and newer than each of its sources.
fn is_current(made: &Path, sources: &[&Path]) -> bool {
    let time = |file: &Path| fs::metadata(file).and_then(|data| data.modified()).ok();
    let made = time(made);
    made.is_some() && sources.iter().all(|source| time(source) < made)
}

/// The shared libraries that the loader of this machine finds for a program, the loader among them.
fn libraries(program: &Path) -> Result<Files> {
    let list = command::output(Command::new("ldd").arg(program))?;
    Ok(loaded(&list).map(|path| (PathBuf::from(path), path.to_owned())).collect())
}

/// The paths in what `ldd` prints: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader as a path alone.
fn loaded(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

fn folder_of_archives() -> PathBuf {
    workspace::target().join("images")
}

/// The product's programs as the images hold them; the folder in which they are.
///
/// # Errors
/// When they cannot be built; cargo has said why.
pub(crate) fn programs() -> Result<PathBuf> {
    release(&["larder-node", "larder-operator", "larder-cli"])
}

/// Builds all programs of some crates, static, in the release profile.
///
/// # Errors
/// As [`programs`].
pub(crate) fn release(packages: &[&str]) -> Result<PathBuf> {
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

/// Where [`release`] leaves programs.
pub(crate) fn folder() -> PathBuf {
    workspace::target().join(target()).join("release")
}

/// The machine's own, named: flags for a named target leave build scripts alone.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A program at the root of the file system.
fn at_root(program: &Path) -> (PathBuf, String) {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    (program.to_path_buf(), format!("/{name}"))
}

/// An image that runs the first of its files.
fn image(name: &str, programs: Files) -> Image {
    let label = |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.into());
    Image {
        name: format!("{REGISTRY}/{name}:{TAG}"),
        // What the operator and the chart take when nobody names an image.
        aliases: vec![format!("{REGISTRY}/{name}:{}", env!("CARGO_PKG_VERSION"))],
        entrypoint: programs.first().map(|(_, inside)| inside.clone()).into_iter().collect(),
        programs,
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
    fn libraries_are_read_with_the_loader_and_without_the_kernels_page() {
        let list = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths: Vec<&str> = loaded(list).collect();
        assert_eq!(paths, ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn an_archive_is_written_again_when_a_source_is_newer_or_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, seconds: u64| {
            let path = folder.path().join(name);
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = fs::File::create(&path).expect("created");
            file.set_modified(time).expect("set");
            path
        };
        let (old, made, new) = (file("old", 1), file("made", 2), file("new", 3));
        assert!(is_current(&made, &[&old]));
        assert!(!is_current(&made, &[&old, &new]));
        assert!(!is_current(&folder.path().join("none"), &[&old]));
    }

    #[test]
    fn an_image_above_its_limit_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let sized = |name: &str, megabytes: u64| {
            let file = folder.path().join(format!("{name}.tar"));
            let made = fs::File::create(&file).expect("created");
            made.set_len(megabytes * 1_000_000).expect("a sparse file");
            check_size(&Archive { name: name.into(), file })
        };
        sized(NODE, 20).expect("at the limit");
        let error = sized(OPERATOR, 21).expect_err("above").to_string();
        assert_eq!(error, "larder-operator has 21000000 bytes; the limit is 20 MB");
        sized(COMMAND, 30).expect("at its own limit");
    }

    #[test]
    fn the_first_program_is_what_a_container_runs() {
        let programs = ["/x/etcd", "/x/tool"].map(|program| at_root(Path::new(program)));
        let image = image("larder-etcd", programs.to_vec());
        assert_eq!(image.name, "docker.io/library/larder-etcd:dev");
        assert_eq!(image.entrypoint, ["/etcd"]);
        assert_eq!(image.programs[1].1, "/tool");
        assert_eq!(image.user, "65532:65532");
    }
}
