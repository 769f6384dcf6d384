//! The result of one check, and a list of them as text and as JSON.

use serde_json::{Value, json};

use crate::table::{left, table};
use crate::text::plural;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was checked, in kebab-case; stable.
    name: String,
    verdict: Verdict,
    detail: String,
    /// What to do about it; empty when there is nothing to do.
    hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Works, and deserves a look.
    Warn,
    Fail,
}

impl Finding {
    pub(super) fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), hint: "" }
    }

    pub(super) fn warn(
        name: impl Into<String>,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { name: name.into(), verdict: Verdict::Warn, detail: detail.into(), hint }
    }

    pub(super) fn fail(
        name: impl Into<String>,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Self {
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

pub(super) fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|f| f.verdict == verdict).count()
}

pub(super) fn as_text(findings: &[Finding], width: Option<u16>) -> String {
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

pub(super) fn as_json(findings: &[Finding]) -> Value {
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
