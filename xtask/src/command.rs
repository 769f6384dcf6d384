//! Runs other programs and turns their failures into one readable line.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Lines of a failed program's standard error that its error contains.
const ERROR_LINES: usize = 12;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When the program cannot be started, or fails; the error holds the command line and the last lines
/// of its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    fed(command, "")
}

/// Like [`output`], with `input` on standard input.
pub(crate) fn fed(command: &mut Command, input: &str) -> Result<String> {
    let line = line(command);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read its input prints the cause on standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output =
        child.wait_with_output().with_context(|| format!("could not wait for `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, last_lines(stderr.trim(), ERROR_LINES));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program that prints to this process's terminal.
///
/// # Errors
/// When the program cannot be started, or fails; the error holds only the command line, because the
/// program has printed its messages.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The project's cargo, in the project's folder.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(cargo_path());
    cargo.current_dir(workspace::root());
    cargo
}

/// The cargo that started this process; for a program that was started directly, the one of the
/// project's toolchain.
fn cargo_path() -> &'static Path {
    static CARGO: OnceLock<PathBuf> = OnceLock::new();
    CARGO.get_or_init(|| {
        let of_toolchain = || {
            let mut rustc = Command::new("rustc");
            let sysroot =
                output(rustc.current_dir(workspace::root()).args(["--print", "sysroot"])).ok()?;
            Some(Path::new(sysroot.trim()).join("bin/cargo"))
        };
        std::env::var_os("CARGO").map(PathBuf::from).or_else(of_toolchain).unwrap_or("cargo".into())
    })
}

/// Cargo with one verb for the whole workspace, to be narrowed by target (`--bin`, `--test`), never by
/// package: a package by itself is built with fewer features, and with it dozens of dependencies that
/// programs, tests and lints otherwise share.
///
/// Members are compiled by clippy's driver where it is installed, so that lints need no second pass.
pub(crate) fn workspace_cargo(verb: &str) -> Command {
    let mut cargo = cargo();
    if let Some(driver) = clippy_driver() {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", driver);
    }
    // What the tests' own dependencies add; a build of programs would be without it.
    cargo.args([verb, "--workspace", "--features", "larder-runtime/test-util"]);
    cargo
}

/// Clippy's driver of the project's toolchain; none where the component is not installed.
pub(crate) fn clippy_driver() -> Option<PathBuf> {
    Some(cargo_path().with_file_name("clippy-driver")).filter(|driver| driver.is_file())
}

/// Builds one of the workspace's programs in the dev profile and returns its path.
///
/// # Errors
/// When the build fails; cargo has printed the cause.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    Ok(programs(&[name])?.join(name))
}

/// Builds some of the workspace's programs in the dev profile and returns their folder.
///
/// # Errors
/// As [`program`].
pub(crate) fn programs(names: &[&str]) -> Result<PathBuf> {
    // `cargo test --bin` would build the programs' unit tests instead.
    shown(workspace_cargo("build").args(names.iter().flat_map(|name| ["--bin", *name])))?;
    Ok(workspace::target().join("debug"))
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The command as typed in a shell, at most 160 characters and `...`.
pub(crate) fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    if line.chars().count() > 160 {
        line = line.chars().take(160).chain("...".chars()).collect();
    }
    line
}

/// Finds a program on the PATH, or in system folders that a user's PATH often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    std::env::split_paths(&path)
        .chain(usual.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_command_and_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first >&2; echo last >&2; exit 3"]);
        let error = output(&mut command).expect_err("it exits 3").to_string();
        assert!(error.contains("sh -c") && error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("first\nlast"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(fed(&mut Command::new("cat"), "a\nb").expect("cat reads"), "a\nb");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
