//! Runs `cargo test` for what only cargo can run (documentation, other workspaces), shows each line as it
//! comes and counts by the harness's closing lines.
//!
//! It never filters the output. The workspace's own test programs run in [`super::programs`].

use std::io::{BufRead as _, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::report::Count;
use crate::command;

/// Runs to the end and returns the sum over all test programs. A run that ends badly without a
/// failed test (a build error, a killed program) counts as one failure.
///
/// # Errors
/// When cargo cannot be started or its output cannot be read.
pub(crate) fn run(command: &mut Command) -> Result<Count> {
    run_on(command, &mut std::io::stdout().lock())
}

fn run_on(command: &mut Command, screen: &mut impl Write) -> Result<Count> {
    writeln!(screen, "$ {}", command::line(command))?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let mut output = BufReader::new(child.stdout.take().expect("piped above"));
    let (mut count, mut line) = (Count::default(), Vec::new());
    while output.read_until(b'\n', &mut line).context("read what cargo says")? > 0 {
        screen.write_all(&line)?;
        screen.flush()?;
        count = count.plus(counted(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() && count.failed == 0 {
        writeln!(screen, "cargo ended with {status}, but no test failed")?;
        count.failed = 1;
    }
    Ok(count)
}

/// The sum of all closing lines of a harness in `text`.
pub(super) fn counted(text: &str) -> Count {
    text.lines().filter_map(closing_line).fold(Count::default(), Count::plus)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn closing_line(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut count = Count::default();
    for part in counts.split(';') {
        let Some((number, word)) = part.trim().split_once(' ') else { continue };
        match (number.parse(), word) {
            (Ok(number), "passed") => count.passed = number,
            (Ok(number), "failed") => count.failed = number,
            (Ok(number), "ignored") => count.ignored = number,
            _ => {}
        }
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read_and_others_are_not() {
        let line = "test result: FAILED. 21 passed; 2 failed; 1 ignored; 0 measured; \
                    4 filtered out; finished in 0.31s\n";
        assert_eq!(closing_line(line), Some(Count { passed: 21, failed: 2, ignored: 1 }));
        assert_eq!(closing_line("test result_is_kept ... ok"), None);
        assert_eq!(closing_line("    test result: ok. 1 passed"), None);
    }

    #[test]
    fn sums_over_programs_and_notices_a_bad_end() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exit $0";
        let run = |code: &str| {
            let mut screen = Vec::new();
            let mut command = Command::new("sh");
            let count = run_on(command.args(["-c", script, code]), &mut screen).expect("it runs");
            assert!(String::from_utf8_lossy(&screen).contains("ok. 3 passed"), "all is shown");
            count
        };
        assert_eq!(run("0"), Count { passed: 5, failed: 0, ignored: 0 });
        assert_eq!(run("101"), Count { passed: 5, failed: 1, ignored: 0 });
    }
}
