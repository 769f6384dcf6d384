//! Starts a PostgreSQL server for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::database::{Database, Setup};
use crate::command;
use crate::packages::{self, Needed};

/// Installs PostgreSQL when it is missing, creates an empty database cluster with a superuser
/// `larder`, starts its server and waits until it is ready.
///
/// # Errors
/// When the server is not installed and this process cannot install it; the error holds the command
/// to run. When the server does not start; the error holds the last lines of its log.
pub(super) fn start() -> Result<Database> {
    let programs = programs()?;
    let setup = Setup::new("postgres", Signal::INT)?;
    let secret = setup.write_secret("password", &setup.password)?;
    let mut initdb = setup.command(&programs.join("initdb"));
    initdb.arg("--pgdata").arg(setup.path("data")).arg("--pwfile").arg(&secret);
    initdb.args(["--username=larder", "--auth=scram-sha-256", "--encoding=UTF8"]);
    command::output(initdb.args(["--no-sync", "--no-locale"]))?;

    let port = setup.port.to_string();
    let mut server = setup.command(&programs.join("postgres"));
    server.arg("-D").arg(setup.path("data")).arg("-k").arg(setup.path(""));
    server.args(["-h", "127.0.0.1", "-p", &port, "-c", "fsync=off"]);
    let mut probe = Command::new(programs.join("pg_isready"));
    probe.args(["-q", "-h", "127.0.0.1", "-p", &port]);
    let url = format!("postgres://larder:{}@127.0.0.1:{port}/postgres", setup.password);
    setup.start(server, probe, url).context("PostgreSQL")
}

/// The folder with `initdb` and `postgres`, which Debian does not put on the PATH. Installs them when
/// they are missing.
fn programs() -> Result<PathBuf> {
    let found = || newest(Path::new("/usr/lib/postgresql")).or_else(on_path);
    if let Some(folder) = found() {
        return Ok(folder);
    }
    packages::ensure(&[Needed { file: "/usr/share/doc/postgresql", package: "postgresql" }])?;
    found().context("postgresql is installed, but its initdb was not found")
}

fn newest(versions: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(versions).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|folder| folder.join("bin/initdb").is_file())
        .max_by_key(|folder| folder.file_name()?.to_str()?.parse::<u32>().ok())
        .map(|folder| folder.join("bin"))
}

fn on_path() -> Option<PathBuf> {
    command::find("initdb")?.parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_with_a_server_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        for (version, program) in [("9", "initdb"), ("15", "initdb"), ("16", "psql")] {
            let bin = folder.path().join(version).join("bin");
            fs::create_dir_all(&bin).expect("made");
            fs::write(bin.join(program), "").expect("written");
        }
        assert_eq!(newest(folder.path()), Some(folder.path().join("15/bin")));
        assert_eq!(newest(&folder.path().join("none")), None);
    }
}
