//! Exit codes, and what a failure says. The help of every verb names the codes.

use larder_client::{BuildError, Error, Failure};

pub(crate) use larder_runtime::exit::{BAD_CONFIGURATION, FAILURE, OK};

/// `get`, `explain`: the origin says there is no such key.
pub(crate) const ABSENT: u8 = 4;

/// Wrong usage or configuration: exit 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadConfiguration(pub(crate) String);

/// A failure as the user reads it and as a program does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) code: u8,
    /// In a word, for programs.
    pub(crate) kind: &'static str,
    /// What a member gave as the reason, as docs/reference/errors.md lists them.
    pub(crate) reason: Option<String>,
    /// One line with the causes.
    pub(crate) message: String,
    /// What to do, where that is known.
    pub(crate) hint: Option<&'static str>,
}

impl Failed {
    pub(crate) fn usage(message: String) -> Self {
        Self { code: BAD_CONFIGURATION, kind: "usage", reason: None, message, hint: None }
    }
}

impl From<&anyhow::Error> for Failed {
    fn from(error: &anyhow::Error) -> Self {
        let client = error.downcast_ref::<Error>();
        let bad = error.is::<BadConfiguration>() || error.is::<BuildError>();
        let kind = match client {
            Some(client) => client.kind(),
            None if bad => "bad_configuration",
            None => "failed",
        };
        Self {
            code: if bad { BAD_CONFIGURATION } else { FAILURE },
            kind,
            reason: client.and_then(Error::reason).map(str::to_owned),
            message: one_line(error),
            hint: client.and_then(hint),
        }
    }
}

/// An error with its causes in one line. A cause that the line before already holds is left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = joined_lines(&cause.to_string());
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        // The message says which port to use.
        Error::Unavailable { last: Failure::NotGrpc { .. }, .. } => None,
        Error::Unavailable { last: Failure::Answered(_), .. } => {
            Some("`larder status` shows the members")
        }
        Error::Unavailable { .. } | Error::DeadlineExceeded { .. } => {
            Some("`larder check` tests each step of the way to the members")
        }
        Error::UnknownGroup(_) => {
            Some("`larder status` lists the groups; a new CacheGroup takes about a second")
        }
        _ => None,
    }
}

fn joined_lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_repeats_the_error_is_left_out() {
        let error = anyhow::anyhow!("(code: 14) no file").context("database: (code: 14) no file");
        assert_eq!(
            one_line(&error.context("group a\n fails")),
            "group a; fails: database: (code: 14) no file"
        );
    }

    #[test]
    fn wrong_configuration_is_64_and_anything_else_is_1() {
        let bad = Failed::from(&BadConfiguration("no".into()).into());
        assert_eq!((bad.code, bad.kind), (64, "bad_configuration"));
        let failed = Failed::from(&anyhow::anyhow!("no"));
        assert_eq!((failed.code, failed.kind), (1, "failed"));
    }
}
