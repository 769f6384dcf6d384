//! Debian packages that a verb needs: looked for by the file they bring, installed when root.
//!
//! It never upgrades or removes a package.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A program (a name on the PATH, or a whole path) and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// What must exist.
    pub(crate) file: &'static str,
    /// What to install when it does not.
    pub(crate) package: &'static str,
}

/// Makes sure that every program is there, installing what is missing when that is possible.
///
/// # Errors
/// One line with the command to type, when this process may not install, or apt-get failed.
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
        // Run level 1 keeps a package from starting its daemon: we start our own, or none.
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
        still => bail!("installed, but still not found: {}", still.join(" ")),
    }
}

fn present(file: &str) -> bool {
    if file.contains('/') { Path::new(file).exists() } else { command::find(file).is_some() }
}

/// The packages to install, each once, in the order asked.
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
    fn a_package_that_brings_two_programs_is_named_once() {
        let needed = [
            Needed { file: "initdb", package: "postgresql" },
            Needed { file: "sh", package: "dash" },
            Needed { file: "postgres", package: "postgresql" },
        ];
        assert_eq!(missing(&needed, |file| file == "sh"), ["postgresql"]);
    }
}
