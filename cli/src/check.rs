//! `larder check`: named checks of a file, or of the way to the members, each with a hint.

mod file;
mod way;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use larder_runtime::exit;
use serde_json::{Value, json};

use crate::connect::{Endpoint, runtime};
use crate::output::{Format, print, print_json};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// File of CacheClusters and CacheGroups to check against their schema and rules; asks no
    /// member
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

/// One check's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was checked, in kebab-case; stable.
    name: String,
    verdict: Verdict,
    /// What was seen.
    detail: String,
    /// What to do about it; empty when all is well.
    hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Works, and should be looked at.
    Warn,
    Fail,
}

impl Finding {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), hint: "" }
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>, hint: &'static str) -> Self {
        Self { name: name.into(), verdict: Verdict::Warn, detail: detail.into(), hint }
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>, hint: &'static str) -> Self {
        Self { name: name.into(), verdict: Verdict::Fail, detail: detail.into(), hint }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

impl Check {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let (findings, bad) = match &self.file {
            Some(path) => (file::check(path)?, exit::BAD_CONFIGURATION),
            None => (runtime()?.block_on(way::check(endpoint))?, exit::FAILURE),
        };
        match self.output {
            Format::Json => print_json(&as_json(&findings))?,
            Format::Text => print(as_text(&findings))?,
        }
        let failed = findings.iter().any(|f| f.verdict == Verdict::Fail);
        Ok(ExitCode::from(if failed { bad } else { exit::OK }))
    }
}

fn as_text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for f in findings {
        text += &format!("{:4}  {:width$}  {}\n", f.verdict.word(), f.name, f.detail);
        if !f.hint.is_empty() {
            text += &format!("      {:width$}  hint: {}\n", "", f.hint);
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    text + &format!("{} checks, {failed} failed, {warned} to look at\n", findings.len())
}

fn as_json(findings: &[Finding]) -> Value {
    let one = |f: &Finding| {
        json!({
            "name": f.name, "verdict": f.verdict.word().to_lowercase(),
            "detail": f.detail, "hint": f.hint,
        })
    };
    findings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_one_line_with_its_hint_below() {
        let findings = [
            Finding::ok("resolves", "1 address"),
            Finding::fail("connects", "refused", "start it"),
        ];
        assert_eq!(
            as_text(&findings),
            "\
ok    resolves  1 address
FAIL  connects  refused
                hint: start it
2 checks, 1 failed, 0 to look at
"
        );
    }
}
