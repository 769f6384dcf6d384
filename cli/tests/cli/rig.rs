//! Runs the program: commands that end, and `larder up` next to them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// Longest wait for a line of a program, and for its end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The program, in the workspace's folder, free of this environment's settings.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(LARDER);
    command.args(args).current_dir(root());
    for variable in ["LARDER_ENDPOINT", "LARDER_TLS_DIR", "COLUMNS"] {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn larder(args: &[&str]) -> Output {
    command(args).stdin(Stdio::null()).output().expect("the program starts")
}

/// Runs the program with `input` on standard input.
pub(crate) fn fed(args: &[&str], input: &str) -> Output {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("read");
    drop(stdin);
    child.wait_with_output().expect("ends")
}

pub(crate) fn shell(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).current_dir(root()).output().expect("a shell")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

/// The envelope on standard output.
pub(crate) fn envelope(output: &Output) -> Value {
    let text = out(output);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?} {}", err(output)))
}

/// Compares with `tests/golden/NAME`, or writes it.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDEN=1 writes it");
}

/// The sample's text.
pub(crate) fn sample() -> String {
    std::fs::read_to_string(root().join("manifests/examples/shop.yaml")).expect("in the checkout")
}

/// A GET without curl, for what is compared to the byte.
pub(crate) fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("listening");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// A program that runs until it is stopped; killed with the test. Its temporary files are in a
/// folder of its own.
pub(crate) struct Program {
    child: Child,
    /// Lines of standard output and standard error.
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
    temporary: TempDir,
}

impl Program {
    pub(crate) fn start(args: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        // `nohup` and background jobs of a shell leave signals ignored, which a process inherits.
        let mut child = Command::new("env")
            .args(["--default-signal=HUP,INT", LARDER])
            .args(args)
            .current_dir(root())
            .env_remove("LARDER_ENDPOINT")
            .env_remove("COLUMNS")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (send, lines) = channel();
        forward(child.stdout.take().expect("piped"), send.clone());
        forward(child.stderr.take().expect("piped"), send);
        Self { child, lines, seen: Vec::new(), temporary }
    }

    /// Reads lines up to one that holds `text`.
    pub(crate) fn until(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {text:?} in {:#?}", self.seen);
            };
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill exists");
        assert!(sent.success());
    }

    /// Waits for the end; returns the exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.code().expect("not killed"),
                None if Instant::now() > deadline => panic!("does not end: {:#?}", self.seen),
                None => std::thread::park_timeout(Duration::from_millis(20)),
            }
        }
    }

    /// Names of the files in its temporary folder.
    pub(crate) fn temporary_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.temporary.path()).expect("a folder");
        files.map(|file| file.expect("readable").file_name().to_string_lossy().into()).collect()
    }

    /// Sends SIGINT and returns the exit code.
    pub(crate) fn interrupt(&mut self) -> i32 {
        self.signal("INT");
        self.ended()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(from: impl Read + Send + 'static, send: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // The test may have ended.
            let _ = send.send(line);
        }
    });
}

/// A running `larder up` on free ports.
pub(crate) struct Up {
    pub(crate) program: Program,
    /// The demo's folder.
    _data: TempDir,
}

impl Up {
    pub(crate) fn start(args: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().to_str().expect("text");
        let mut program =
            Program::start(&[&["up", "--port-base", "0", "--data", folder], args].concat());
        program.until("Ctrl-C stops.");
        Self { program, _data: data }
    }

    /// The printed command that holds `text`.
    pub(crate) fn printed(&self, text: &str) -> String {
        let seen = &self.program.seen;
        let line = seen.iter().find(|l| l.starts_with("  ") && l.contains(text));
        line.unwrap_or_else(|| panic!("no {text:?} in {seen:#?}")).trim().to_owned()
    }

    /// `--endpoint` of the first member, out of the printed command.
    pub(crate) fn endpoint(&self) -> String {
        let printed = self.printed(" get ");
        printed.split("--endpoint ").nth(1).expect("not the default port").to_owned()
    }

    /// Runs a verb against the first member.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let endpoint = self.endpoint();
        larder(&[args, &["--endpoint", &endpoint]].concat())
    }

    /// The result of a verb that succeeds.
    pub(crate) fn result(&self, args: &[&str]) -> Value {
        let output = self.ask(&[args, &["-o", "json"]].concat());
        assert_eq!(code(&output), 0, "{args:?}: {}", err(&output));
        envelope(&output)["result"].clone()
    }
}
