//! The Go programs that tests run together with Larder, pinned by the modules in `tools/`.
//!
//! They are built once per state of their module, into `target/tools/<folder>-<hash>/bin`, and are
//! never linked into the product. Start at [`ensure`].

mod build;
mod tool;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

pub(crate) use self::tool::Tool;
use crate::docker_archive::{self, Image};

/// The name of the pause image on nodes.
pub(crate) const PAUSE_IMAGE: &str = "larder.dev/pause:dev";

/// `cargo xtask tools`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tools to build. Default: all.
    tools: Vec<Tool>,
}

/// Paths of programs that [`ensure`] has built.
#[derive(Clone, Debug)]
pub(crate) struct Binaries(BTreeMap<Tool, PathBuf>);

impl Binaries {
    /// The absolute path of a program.
    ///
    /// # Panics
    /// When the tool was not passed to [`ensure`].
    pub(crate) fn path(&self, tool: Tool) -> &Path {
        self.0.get(&tool).expect("the tool was passed to `ensure`")
    }

    /// Paths of all tools in one folder, for tests that start no tool.
    #[cfg(test)]
    pub(crate) fn all_in(folder: &Path) -> Self {
        let tools = Tool::value_variants().iter();
        Self(tools.map(|tool| (*tool, folder.join(tool.name()))).collect())
    }
}

/// Builds the missing programs and returns the paths of all. Several processes may call it at once.
///
/// # Errors
/// When Go is missing, or a build fails; the error holds Go's last messages.
pub(crate) fn ensure(tools: &[Tool]) -> Result<Binaries> {
    let mut folders: BTreeMap<&str, Vec<Tool>> = BTreeMap::new();
    for tool in tools {
        folders.entry(tool.folder()).or_default().push(*tool);
    }
    let mut found = BTreeMap::new();
    for (folder, tools) in folders {
        found.extend(build::folder(folder, &tools)?);
    }
    Ok(Binaries(found))
}

/// The path of a program, if it has been built.
pub(crate) fn built(tool: Tool) -> Option<PathBuf> {
    build::path(tool).ok().filter(|path| path.exists())
}

/// The path of the pause image, a docker-archive that the first call writes.
///
/// # Errors
/// As [`ensure`], or when the archive cannot be written.
pub(crate) fn pause_image() -> Result<PathBuf> {
    let program = ensure(&[Tool::Pause])?.path(Tool::Pause).to_path_buf();
    let archive = program.with_extension("tar");
    if !archive.exists() {
        let image = Image {
            name: PAUSE_IMAGE.into(),
            programs: vec![(program, "/pause".into())],
            entrypoint: vec!["/pause".into()],
            user: "65535:65535".into(),
            ..Image::default()
        };
        docker_archive::write(&image, &archive)?;
    }
    Ok(archive)
}

/// Builds the programs and prints their paths, one per line.
pub(crate) fn run(args: Args) -> Result<()> {
    let known = Tool::value_variants();
    let wanted = if args.tools.is_empty() { known.to_vec() } else { args.tools };
    let binaries = ensure(&wanted)?;
    for tool in wanted {
        println!("{}", binaries.path(tool).display());
    }
    Ok(())
}
