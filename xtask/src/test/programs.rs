//! Runs test programs, some at the same time, and counts by the harness's closing lines.
//!
//! What a program prints is shown in one piece when it ends, so that two programs do not interleave.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cargo_test;
use super::report::Count;
use crate::compile::TestProgram;

/// Programs whose tests mostly wait for leases and other processes: more of them run at the same time than there
/// are cores.
pub(super) const MOSTLY_WAITING: [&str; 2] = ["node/tests/cluster.rs", "node/tests/faults.rs"];
const WAITING_AT_ONCE: &str = "4";

/// A program's end.
struct Ended {
    count: Count,
    output: Vec<u8>,
    took: Duration,
}

/// Runs every program to its end with the same arguments and variables, `at_once` at the same time. A
/// program that ends badly without a failed test counts as one failure.
///
/// # Errors
/// When a program cannot be started; the others have run.
pub(super) fn run(
    programs: &[TestProgram],
    at_once: usize,
    arguments: &[String],
    variables: &[(&str, String)],
) -> Result<Count> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut sum = Ok(Count::default());
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ended = end_of(command(program, arguments, variables));
            let ended = ended.with_context(|| format!("run the tests of {}", program.source));
            if let Ok(ended) = &ended {
                show(&program.source, ended);
            }
            sum = sum.and_then(|sum: Count| Ok(sum.plus(ended?.count)));
        }
        sum
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let sums = workers.into_iter().map(|worker| worker.join().expect("it returns its errors"));
        sums.reduce(|sum, more| Ok(sum?.plus(more?))).unwrap_or(Ok(Count::default()))
    })
}

/// As `cargo test` starts it: in the folder of its package.
fn command(program: &TestProgram, arguments: &[String], variables: &[(&str, String)]) -> Command {
    let mut command = Command::new(&program.file);
    command.args(arguments).current_dir(&program.folder);
    command.env("CARGO_MANIFEST_DIR", &program.folder);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if MOSTLY_WAITING.contains(&program.source.as_str()) {
        command.env("RUST_TEST_THREADS", WAITING_AT_ONCE);
    }
    command
}

fn end_of(mut command: Command) -> Result<Ended> {
    // One file for both streams keeps the order of their lines.
    let mut file: File = tempfile::tempfile().context("make a file for the output")?;
    let begin = Instant::now();
    let status = command.stdout(file.try_clone()?).stderr(file.try_clone()?).status()?;
    let took = begin.elapsed();
    let mut output = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut output)?;
    let mut count = cargo_test::counted(&String::from_utf8_lossy(&output));
    if !status.success() && count.failed == 0 {
        writeln!(output, "it ended with {status}, but no test failed")?;
        count.failed = 1;
    }
    Ok(Ended { count, output, took })
}

fn show(source: &str, ended: &Ended) {
    let mut screen = std::io::stdout().lock();
    // A screen that has gone away does not make a test fail.
    let _ = writeln!(screen, "\n-- {source}, {:.1} s --", ended.took.as_secs_f64());
    let _ = screen.write_all(&ended.output);
    let _ = screen.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]);
        sh
    }

    #[test]
    fn both_streams_are_kept_in_order_and_counted() {
        let closing = "test result: FAILED. 2 passed; 1 failed; 0 ignored";
        let script = format!("echo one; echo two >&2; echo '{closing}'; exit 101");
        let ended = end_of(sh(&script)).expect("it runs");
        assert_eq!(String::from_utf8_lossy(&ended.output), format!("one\ntwo\n{closing}\n"));
        assert_eq!(ended.count, Count { passed: 2, failed: 1, ignored: 0 });
    }

    #[test]
    fn a_program_that_is_killed_counts_as_a_failure() {
        let ended = end_of(sh("kill -9 $$")).expect("it runs");
        assert_eq!(ended.count, Count::FAILED);
        assert!(String::from_utf8_lossy(&ended.output).contains("signal: 9"));
    }

    #[test]
    fn every_program_runs_although_one_cannot_be_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = |file: &str| TestProgram {
            source: file.into(),
            folder: folder.path().to_path_buf(),
            file: file.into(),
        };
        let programs = [program("/no/such/program"), program("/bin/sh"), program("/bin/sh")];
        let arguments = ["-c".into(), "mktemp ran-XXXXXX".into()];
        run(&programs, 2, &arguments, &[]).expect_err("one is missing");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
