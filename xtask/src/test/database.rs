//! A database server for one run of the tests: on loopback, in a temporary folder, as an unprivileged
//! user. When dropped, it is stopped by its process id and its folder is removed.
//!
//! It never touches a server, a database or a port that it did not create. `postgres.rs` and
//! `mariadb.rs` create the two kinds.

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

/// Longest wait for the server to start, and to stop.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the setup of every kind of server needs.
pub(super) struct Setup {
    /// The user under which Debian runs the server, which refuses to run as root.
    user: &'static str,
    /// The signal for a fast shutdown, which ends open connections.
    stop_signal: Signal,
    folder: TempDir,
    pub(super) port: u16,
    /// Hexadecimal digits, so that no URL, file or command has to quote it.
    pub(super) password: String,
}

/// A running server.
pub(super) struct Database {
    server: Child,
    setup: Setup,
    url: String,
}

impl Setup {
    /// Creates a folder that belongs to `user`, and chooses a free port and a password.
    pub(super) fn new(user: &'static str, stop_signal: Signal) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("larder-database-").tempdir()?;
        let setup =
            Self { user, stop_signal, folder, port: free_port()?, password: random_password()? };
        setup.give_to_user(setup.folder.path())?;
        Ok(setup)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only the server's user can read.
    pub(super) fn write_secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.give_to_user(&path)?;
        Ok(path)
    }

    /// The command for a program as the server's user. The kernel stops the program when this process
    /// ends, for whatever reason.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid", self.user, "--regid", self.user, "--init-groups"]);
        }
        let signal = if self.stop_signal == Signal::INT { "INT" } else { "TERM" };
        command.args(["--pdeathsig", signal, "--"]).arg(program).current_dir("/");
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
        let mut started = Database { server, setup: self, url };
        started.wait_until_ready(&mut probe)?;
        Ok(started)
    }

    fn give_to_user(&self, path: &Path) -> Result<()> {
        if geteuid().is_root() {
            chown(path, Some(self.user_id("-u")?), Some(self.user_id("-g")?))?;
        }
        Ok(())
    }

    fn user_id(&self, flag: &str) -> Result<u32> {
        let number = command::output(Command::new("id").args([flag, self.user]))?;
        number
            .trim()
            .parse()
            .with_context(|| format!("`id {flag} {}` did not print a number", self.user))
    }
}

impl Database {
    /// The URL of a user with all privileges.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn wait_until_ready(&mut self, probe: &mut Command) -> Result<()> {
        let begin = Instant::now();
        while command::output(probe).is_err() {
            let ended = self.server.try_wait()?;
            if ended.is_some() || begin.elapsed() > TIMEOUT {
                let log = fs::read_to_string(self.setup.path("log")).unwrap_or_default();
                bail!("the server does not start: {}", command::last_lines(&log, 12));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, self.setup.stop_signal);
        }
        let begin = Instant::now();
        while matches!(self.server.try_wait(), Ok(None)) {
            if begin.elapsed() > TIMEOUT {
                let _ = self.server.kill();
                let _ = self.server.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The port is free now. That another program takes it before the server does is unlikely, and the
/// server would report it.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// 128 bits, because other users of the machine must not read what tests write.
fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}
