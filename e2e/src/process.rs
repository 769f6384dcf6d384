//! Programs started beside the cluster, in the network in which the tests run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Runs the program until standard input ends, then asks it to stop (SIGINT: PostgreSQL's fast
/// shutdown), waits for it and removes its folder. However the tests end, killed ones included,
/// their end of the pipe closes, so nothing outlives them.
const TETHER: &str = r#"
folder=$1; shift
"$@" </dev/null >"$folder/log" 2>&1 &
cat >/dev/null
kill -INT $!
wait $!
rm -rf -- "$folder"
"#;

/// A program with a folder of its own under the system's temporary one. It ends, and the folder
/// with it, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Running {
    tether: Child,
}

impl Running {
    /// Starts `command`; its output goes to the file `log` in `folder`.
    ///
    /// # Panics
    /// When no shell can be started.
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
        // The shell ends after the program; its status says nothing of use.
        let _ = self.tether.wait();
    }
}

/// Makes a folder for a program that [`Running::start`] will run.
///
/// # Panics
/// When the system's temporary folder cannot be written.
#[must_use]
pub fn folder(prefix: &str) -> PathBuf {
    tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary folder").keep()
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// What it wrote to standard error, when it does not start or fails.
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

/// Finds a program on the path or in one of `folders`.
///
/// # Panics
/// When it is nowhere, with the Debian package that brings it.
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
