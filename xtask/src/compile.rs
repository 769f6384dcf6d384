//! The one build of the workspace in the dev profile: programs, test programs and clippy's findings
//! in a single pass of cargo.
//!
//! Workspace members are compiled by clippy's driver, which lints and then generates code as rustc
//! does (`RUSTC_WORKSPACE_WRAPPER`, set by [`command::workspace_cargo`]). Dependencies are compiled
//! once for lints, tests and images. The driver lowers MIR optimisation, so a release build never
//! uses it. Start at [`workspace`].

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::{command, workspace};

/// What a build produced.
#[derive(Debug, Default)]
pub(crate) struct Build {
    /// Distinct findings of the compiler and of clippy, as cargo renders them.
    pub(crate) findings: BTreeSet<String>,
    /// The test programs, in cargo's order.
    pub(crate) tests: Vec<TestProgram>,
}

/// An executable with a test harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// Where it is compiled from, relative to the workspace: `node/tests/cluster.rs`.
    pub(crate) source: String,
    /// The folder of its package, the working directory that cargo gives a test.
    pub(crate) folder: PathBuf,
    /// The executable.
    pub(crate) file: PathBuf,
}

/// Builds every target of every member.
///
/// # Errors
/// When something does not compile; the compiler's messages are on the terminal.
pub(crate) fn workspace() -> Result<Build> {
    targets(&["--all-targets"])
}

/// Builds some targets, as cargo's `--bin NAME` and `--test NAME` choose them.
///
/// # Errors
/// As [`workspace`].
pub(crate) fn targets(targets: &[&str]) -> Result<Build> {
    let mut cargo = command::workspace_cargo("test");
    let format =
        if std::io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    cargo.args(["--no-run", "--message-format", format]).args(targets);
    let line = command::line(&cargo);
    println!("$ {line}");
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let messages = BufReader::new(child.stdout.take().expect("piped above"));
    let mut build = Build::default();
    for line in messages.lines() {
        // Lines that are not JSON come from no part of cargo that matters here.
        if let Ok(message) = serde_json::from_str(&line.context("read cargo's messages")?) {
            build.add(message);
        }
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(build)
}

impl Build {
    /// # Errors
    /// When there are findings, or when clippy, which finds most of them, is not installed.
    pub(crate) fn check_findings(&self) -> Result<()> {
        ensure!(
            command::clippy_driver().is_some(),
            "clippy is not installed (rustup component add clippy)"
        );
        let count = self.findings.len();
        ensure!(count == 0, "{count} findings, printed above");
        Ok(())
    }

    fn add(&mut self, message: Message) {
        match message {
            Message::Artifact(artifact) => self.tests.extend(artifact.test_program()),
            Message::Diagnostic { message } => {
                let text = message.rendered.as_deref().unwrap_or(&message.message);
                // A library is compiled with and without its tests, and its findings come twice.
                if !self.findings.contains(text) {
                    eprint!("{text}");
                }
                if message.is_finding() {
                    self.findings.insert(text.to_owned());
                }
            }
            Message::Other => {}
        }
    }
}

/// The part of cargo's messages that is used:
/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>.
#[derive(Deserialize)]
#[serde(tag = "reason")]
enum Message {
    #[serde(rename = "compiler-artifact")]
    Artifact(Artifact),
    #[serde(rename = "compiler-message")]
    Diagnostic { message: Diagnostic },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    profile: Profile,
    manifest_path: PathBuf,
    target: Target,
}

impl Artifact {
    fn test_program(self) -> Option<TestProgram> {
        let file = self.executable.filter(|_| self.profile.test)?;
        let source = self.target.src_path;
        Some(TestProgram {
            source: source.strip_prefix(workspace::root()).unwrap_or(&source).display().to_string(),
            folder: self.manifest_path.parent()?.to_path_buf(),
            file,
        })
    }
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    rendered: Option<String>,
    spans: Vec<serde_json::Value>,
}

impl Diagnostic {
    /// The closing sum ("2 warnings emitted") has no place in the source.
    fn is_finding(&self) -> bool {
        matches!(self.level.as_str(), "warning" | "error") && !self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(lines: &[&str]) -> Build {
        let mut build = Build::default();
        for line in lines {
            build.add(serde_json::from_str(line).expect("one of cargo's messages"));
        }
        build
    }

    #[test]
    fn only_executables_with_a_harness_are_test_programs() {
        let artifact = |test: bool, executable: &str| {
            let source = workspace::root().join("node/tests/cluster.rs");
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/node/Cargo.toml",
                "target":{{"src_path":{source:?},"name":"cluster"}},"profile":{{"test":{test}}},
                "executable":{executable}}}"#
            )
        };
        let program = artifact(false, r#""/w/target/debug/larder-node""#);
        let library = artifact(true, "null");
        let test = artifact(true, r#""/w/target/debug/deps/cluster-1""#);
        let done = r#"{"reason":"build-finished","success":true}"#;
        let expected = TestProgram {
            source: "node/tests/cluster.rs".into(),
            folder: "/w/node".into(),
            file: "/w/target/debug/deps/cluster-1".into(),
        };
        assert_eq!(build(&[&program, &library, &test, done]).tests, [expected]);
    }

    #[test]
    fn a_finding_counts_once_and_the_closing_sum_does_not() {
        let message = |level: &str, text: &str, spans: &str| {
            format!(
                r#"{{"reason":"compiler-message","message":{{"level":"{level}","message":"{text}",
                "rendered":"{text}\n","spans":{spans}}}}}"#
            )
        };
        let unused = message("warning", "unused variable", "[{}]");
        let sum = message("warning", "1 warning emitted", "[]");
        let help = message("note", "for more information", "[{}]");
        assert_eq!(build(&[&unused, &sum, &unused, &help]).findings.len(), 1);
    }
}
