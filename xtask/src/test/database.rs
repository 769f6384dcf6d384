//! A database server for one run of the tests: on loopback, in a temporary folder, as a plain user,
//! stopped by its process id and removed when dropped.
//!
//! It never touches a server, a database or a port that it did not make. `postgres.rs` and
//! `mariadb.rs` say how each is made.

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

use crate::{command, docker_archive::hex};

/// Longest wait for the first answer, and for the end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is the same for every database, before there is one.
pub(super) struct Site {
    /// The user under whom Debian runs the server: none of them likes to be root.
    user: &'static str,
    /// Its fast shutdown: open connections are ended, nothing is waited for.
    stop: Signal,
    folder: TempDir,
    pub(super) port: u16,
    /// Digits, so that it can stand anywhere.
    pub(super) password: String,
}

/// A running server.
pub(super) struct Database {
    server: Child,
    site: Site,
    url: String,
}

impl Site {
    /// A folder that belongs to `user`, a free port and a password.
    pub(super) fn new(user: &'static str, stop: Signal) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("larder-database-").tempdir()?;
        let site = Self { user, stop, folder, port: free_port()?, password: random()? };
        site.give(site.folder.path())?;
        Ok(site)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only the server's user can read.
    pub(super) fn secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.give(&path)?;
        Ok(path)
    }

    /// The program as the server's user, told to end when this process does, however it ends.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid", self.user, "--regid", self.user, "--init-groups"]);
        }
        let stop = if self.stop == Signal::INT { "INT" } else { "TERM" };
        command.args(["--pdeathsig", stop, "--"]).arg(program).current_dir("/");
        command
    }

    /// Starts the server and waits until `probe` succeeds.
    pub(super) fn start(
        self,
        mut server: Command,
        mut probe: Command,
        url: String,
    ) -> Result<Database> {
        let log = File::create(self.path("log"))?;
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let name = command::line(&server);
        let server = server.spawn().with_context(|| format!("could not start `{name}`"))?;
        let mut started = Database { server, site: self, url };
        started.wait_for_answer(&mut probe)?;
        Ok(started)
    }

    fn give(&self, path: &Path) -> Result<()> {
        if geteuid().is_root() {
            chown(path, Some(self.id("-u")?), Some(self.id("-g")?))?;
        }
        Ok(())
    }

    fn id(&self, flag: &str) -> Result<u32> {
        let number = command::output(Command::new("id").args([flag, self.user]))?;
        number.trim().parse().with_context(|| format!("`id {flag} {}` is no number", self.user))
    }
}

impl Database {
    /// Where tests connect, with every right.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn wait_for_answer(&mut self, probe: &mut Command) -> Result<()> {
        let begin = Instant::now();
        while command::output(probe).is_err() {
            let ended = self.server.try_wait()?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.site.path("log")).unwrap_or_default();
                bail!("the server does not answer: {}", command::last_lines(&log, 12));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, self.site.stop);
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
