//! `larder check`: named checks of a file, or of each step on the path to the members, with hints.

mod file;
mod reach;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::connect::{Connection, runtime};
use crate::exit;
use crate::output::{Output, Report};
use crate::table::{left, table, terminal_width};
use crate::text::plural;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// File of CacheClusters and CacheGroups to check against their schema and rules, without
    /// asking a member; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// What was checked, in kebab-case; stable.
    name: String,
    verdict: Verdict,
    detail: String,
    /// What to do about it; empty when there is nothing to do.
    hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Works, and deserves a look.
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
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let findings = match &self.file {
            Some(path) => file::check(path)?,
            None => runtime()?.block_on(reach::check(&self.connection))?,
        };
        let failed = count(&findings, Verdict::Fail) > 0;
        let code = if failed { exit::FAILURE } else { exit::OK };
        Ok(Report::new(as_text(&findings, terminal_width()), as_json(&findings)).code(code))
    }
}

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|f| f.verdict == verdict).count()
}

fn as_text(findings: &[Finding], width: Option<u16>) -> String {
    let rows = findings.iter().map(|f| {
        let hint = if f.hint.is_empty() { String::new() } else { format!("\nhint: {}", f.hint) };
        vec![f.verdict.word().to_owned(), f.name.clone(), f.detail.clone() + &hint]
    });
    let (failed, warned) = (count(findings, Verdict::Fail), count(findings, Verdict::Warn));
    format!(
        "{}{}, {failed} failed, {}\n",
        table(&[left(""), left(""), left("")], rows.collect(), width),
        plural(findings.len(), "check"),
        plural(warned, "warning")
    )
}

fn as_json(findings: &[Finding]) -> Value {
    let one = |f: &Finding| {
        json!({
            "name": f.name, "verdict": f.verdict.word().to_lowercase(),
            "detail": f.detail, "hint": f.hint,
        })
    };
    json!({
        "findings": findings.iter().map(one).collect::<Vec<_>>(),
        "failed": count(findings, Verdict::Fail),
        "warnings": count(findings, Verdict::Warn),
    })
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
            as_text(&findings, None),
            "\
ok    resolves  1 address
FAIL  connects  refused
                hint: start it
2 checks, 1 failed, 0 warnings
"
        );
    }
}
