//! Debian packages that a verb needs: found by a file that they contain, installed when run as root.
//!
//! It never upgrades or removes a package.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A file and the Debian package that contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The name of a program on the PATH, or an absolute path.
    pub(crate) file: &'static str,
    pub(crate) package: &'static str,
}

/// Installs the packages whose files are missing.
///
/// # Errors
/// When packages are missing and this process is not root; the error holds the command to run. When
/// apt-get fails.
pub(crate) fn ensure(needed: &[Needed]) -> Result<()> {
    let missing = missing(needed, present);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::geteuid().is_root() || command::find("apt-get").is_none() {
        bail!("missing: {list} (on Debian: sudo apt-get update && sudo apt-get install {list})");
    }
    println!("installing Debian packages: {list}");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        // In run level 1, packages do not start their daemons.
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        apt.arg("-qq").args(arguments);
        command::output(&mut apt)
    };
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)?;
    match self::missing(needed, present).as_slice() {
        [] => Ok(()),
        absent => bail!("installed, but files of these packages are missing: {}", absent.join(" ")),
    }
}

fn present(file: &str) -> bool {
    if file.contains('/') { Path::new(file).exists() } else { command::find(file).is_some() }
}

/// The packages to install, each once, in the order of `needed`.
fn missing(needed: &[Needed], present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for each in needed {
        if !present(each.file) && !packages.contains(&each.package) {
            packages.push(each.package);
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_two_missing_programs_is_listed_once() {
        let needed = [
            Needed { file: "initdb", package: "postgresql" },
            Needed { file: "sh", package: "dash" },
            Needed { file: "postgres", package: "postgresql" },
        ];
        assert_eq!(missing(&needed, |file| file == "sh"), ["postgresql"]);
    }
}
