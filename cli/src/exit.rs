//! Exit codes, and the one line that goes with a failure. The help of every verb names them.

use std::process::ExitCode;

use larder_client::{BuildError, Error};
use larder_runtime::exit;

/// `get`, `explain`: the origin says there is no such key.
pub(crate) const ABSENT: u8 = 4;

/// Shown below the help of every verb.
pub(crate) const HELP: &str = "Exit codes:
  0   done; for get and explain: found
  1   failed: no member answered, an unknown group, a check that failed
  4   get and explain: absent, the origin says there is no such key
  64  wrong usage or configuration, told in one line";

/// Wrong usage or configuration: exit 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadConfiguration(pub(crate) String);

/// Prints a failure as one line with its causes, and a hint where there is one.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprint(&format!("larder: {}", told(error)));
    if let Some(hint) = error.downcast_ref::<Error>().and_then(hint) {
        eprint(&format!("hint: {hint}"));
    }
    let bad = error.is::<BadConfiguration>() || error.is::<BuildError>();
    ExitCode::from(if bad { exit::BAD_CONFIGURATION } else { exit::FAILURE })
}

/// An error with its causes in one line, without those that only repeat the one before.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = one_line(&cause.to_string());
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Unavailable { .. } | Error::DeadlineExceeded { .. } => {
            Some("`larder check` tells what stands between you and the members")
        }
        Error::UnknownGroup { .. } => {
            Some("`larder status` lists the groups; a new CacheGroup takes about a second")
        }
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[allow(clippy::print_stderr, reason = "a command's own words go to standard error")]
fn eprint(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_repeat_the_error_are_told_once() {
        let error = anyhow::anyhow!("(code: 14) no file").context("database: (code: 14) no file");
        assert_eq!(
            told(&error.context("group a\n fails")),
            "group a; fails: database: (code: 14) no file"
        );
    }
}
