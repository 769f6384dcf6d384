//! A PostgreSQL server for one run of the tests: on loopback, in a temporary folder, stopped by its
//! process id and removed when dropped.
//!
//! It never touches a server, a cluster or a port that it did not make.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::packages::{self, Needed};
use crate::{command, docker_archive::hex};

/// The user under whom Debian runs PostgreSQL, which refuses to be root.
const USER: &str = "postgres";
/// Longest wait for the first answer, and for the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Postgres {
    server: Child,
    port: u16,
    password: String,
    folder: TempDir,
}

impl Postgres {
    /// Installs PostgreSQL when it is missing, makes an empty cluster, starts its server and waits
    /// until it answers.
    ///
    /// # Errors
    /// The command to type when it cannot be installed from here; otherwise the server's own words.
    pub(crate) fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("larder-postgres-").tempdir()?;
        let password = random()?;
        let secret = folder.path().join("password");
        fs::write(&secret, &password)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        if geteuid().is_root() {
            let (uid, gid) = (id("-u")?, id("-g")?);
            chown(folder.path(), Some(uid), Some(gid))?;
            chown(&secret, Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&secret);
        initdb.args(["--username=larder", "--auth=scram-sha-256", "--encoding=UTF8"]);
        command::output(initdb.args(["--no-sync", "--no-locale"]))?;

        let port = free_port()?;
        let log = File::create(folder.path().join("log"))?;
        let mut postgres = unprivileged(&programs.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(folder.path());
        postgres.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off"]);
        postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = postgres.spawn().context("could not start postgres")?;
        let mut started = Self { server, port, password, folder };
        started.wait_for_answer(&programs.join("pg_isready"))?;
        Ok(started)
    }

    /// Where tests connect, as a superuser.
    pub(crate) fn url(&self) -> String {
        format!("postgres://larder:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    fn wait_for_answer(&mut self, pg_isready: &Path) -> Result<()> {
        let begin = Instant::now();
        loop {
            let mut probe = Command::new(pg_isready);
            probe.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if command::output(&mut probe).is_ok() {
                return Ok(());
            }
            let ended = self.server.try_wait()?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("PostgreSQL does not answer: {}", command::last_lines(&log, 12));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown: open connections are ended, nothing is waited for.
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let begin = Instant::now();
        while matches!(self.server.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.server.kill();
                let _ = self.server.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The folder with `initdb` and `postgres`, which Debian keeps off the PATH; installed when missing.
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

/// The program as a plain user, told to end when this process does, however it ends.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    }
    command.args(["--pdeathsig", "INT", "--"]).arg(program).current_dir("/");
    command
}

fn id(flag: &str) -> Result<u32> {
    let number = command::output(Command::new("id").args([flag, USER]))?;
    number.trim().parse().with_context(|| format!("`id {flag} {USER}` printed no number"))
}

/// Free now; that another program takes it in the next moments is unlikely, and would be reported.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// 128 bits as digits: other users of the machine must not read what tests write.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_with_a_server_is_taken() {
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
