//! Programs that tests start next to the cluster, in the tests' network.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Runs the program until standard input ends, then stops it (SIGINT is PostgreSQL's fast
/// shutdown), waits for it and removes its folder. However the tests end, even killed, their end of
/// the pipe closes, so no program outlives them.
const TETHER: &str = r#"
folder=$1; shift
"$@" </dev/null >"$folder/log" 2>&1 &
cat >/dev/null
kill -INT $!
wait $!
rm -rf -- "$folder"
"#;

/// A program with its own temporary folder. Both end when this is dropped or the process ends.
#[derive(Debug)]
pub struct Running {
    tether: Child,
}

impl Running {
    /// Starts `command`; its output goes to the file `log` in `folder`.
    ///
    /// # Panics
    /// When `sh` cannot be started.
    #[must_use]
    pub fn start(command: &[&OsStr], folder: &Path) -> Self {
        let tether = Command::new("sh")
            .args(["-c", TETHER, "tether"])
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        Self { tether }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.tether.stdin.take());
        // The shell ends after the program; its status means nothing.
        let _ = self.tether.wait();
    }
}

/// Creates a folder for a program that [`Running::start`] will run.
///
/// # Panics
/// When the system's temporary folder cannot be written.
#[must_use]
pub fn folder(prefix: &str) -> PathBuf {
    tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary folder").keep()
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// Its output, when it does not start or fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let done: Output =
        command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&done.stderr)).trim().to_owned())
    }
}

/// A port of `host` that is free now.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_port(host: &str) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// Finds a program in one of `folders` or on the PATH.
///
/// # Panics
/// When it is missing, with the Debian package that contains it.
#[must_use]
pub fn find(name: &str, folders: &[PathBuf], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(OsStr::new(name)))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// Ids of the processes of a pod that run a program. Pods run on this machine, in control groups
/// that are named after their uids.
#[must_use]
pub fn of_pod(uid: &str, program: &str) -> Vec<u32> {
    let is_one = |folder: &Path| {
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        read("comm").trim_end() == program && read("cgroup").contains(uid)
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, folder)| is_one(folder))
        .map(|(id, _)| id)
        .collect()
}

/// Sends a signal to a process, by its name without `SIG`.
///
/// # Panics
/// When there is no such process.
pub fn signal(id: u32, name: &str) {
    let mut kill = Command::new("kill");
    output(kill.args(["-s", name, &id.to_string()])).unwrap_or_else(|e| panic!("kill {id}: {e}"));
}
