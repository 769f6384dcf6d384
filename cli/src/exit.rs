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
    let text: Vec<String> = error.chain().map(|cause| one_line(&cause.to_string())).collect();
    eprint(&format!("larder: {}", text.join(": ")));
    if let Some(hint) = error.downcast_ref::<Error>().and_then(hint) {
        eprint(&format!("hint: {hint}"));
    }
    let bad = error.is::<BadConfiguration>() || error.is::<BuildError>();
    ExitCode::from(if bad { exit::BAD_CONFIGURATION } else { exit::FAILURE })
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
