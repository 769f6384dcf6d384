//! Results of the tiers, as a table and as one closing line.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Number of checks by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Count {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, ignored: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, ignored: 0 };

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// The result of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TierResult {
    /// It ran to its end, with these checks.
    Ran(Count),
    /// It could not run, for this reason.
    NotRun(String),
    /// It was not selected.
    LeftOut,
}

/// How long a tier took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    /// From its begin to its end.
    pub(crate) whole: Duration,
    /// The part in which it built something or waited for a build.
    pub(crate) building: Duration,
}

/// Adds up how long a tier builds.
#[derive(Debug, Default)]
pub(crate) struct BuildClock(Duration);

impl BuildClock {
    /// Runs something that builds, or waits for a build.
    pub(crate) fn time<T>(&mut self, build: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = build();
        self.0 += begin.elapsed();
        result
    }

    /// The sum since the last call.
    pub(crate) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.0)
    }
}

/// All tiers, in the order in which they ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, TierResult, Took)>,
}

impl Report {
    /// Adds the next tier.
    pub(crate) fn add(&mut self, tier: &'static str, result: TierResult, took: Took) {
        self.rows.push((tier, result, took));
    }

    /// The sum over everything that ran.
    pub(crate) fn total(&self) -> Count {
        self.rows.iter().fold(Count::default(), |sum, (_, result, _)| match result {
            TierResult::Ran(count) => sum.plus(*count),
            TierResult::NotRun(_) | TierResult::LeftOut => sum,
        })
    }

    /// True when nothing failed, something passed, and (with `strict`) every selected tier could run.
    pub(crate) fn is_success(&self, strict: bool) -> bool {
        let total = self.total();
        let not_run =
            self.rows.iter().any(|(_, result, _)| matches!(result, TierResult::NotRun(_)));
        total.failed == 0 && total.passed > 0 && !(strict && not_run)
    }

    /// One row per tier, and below the table the reasons for tiers that did not run.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<28}{:>8}{:>8}{:>9}{:>9}{:>9}",
            "tier", "passed", "failed", "ignored", "build s", "run s"
        );
        let mut reasons = String::new();
        for (tier, result, took) in &self.rows {
            let build = took.building.as_secs_f64();
            let run = took.whole.as_secs_f64() - build;
            let _ = match result {
                TierResult::Ran(Count { passed, failed, ignored }) => {
                    writeln!(
                        text,
                        "{tier:<28}{passed:>8}{failed:>8}{ignored:>9}{build:>9.1}{run:>9.1}"
                    )
                }
                TierResult::NotRun(why) => {
                    let _ = writeln!(reasons, "NOT RUN: {tier}: {why}");
                    writeln!(text, "{tier:<28}{:>25}{build:>9.1}{run:>9.1}", "NOT RUN")
                }
                TierResult::LeftOut => {
                    writeln!(text, "{tier:<28}{:>25}{:>9}{:>9}", "left out", "-", "-")
                }
            };
        }
        text + &reasons
    }

    /// The last line of the output, which CI reads.
    pub(crate) fn closing_line(&self) -> String {
        let Count { passed, failed, .. } = self.total();
        format!("{passed} passed, {failed} failed")
    }
}

/// An error in a tier is a failure like any other, and is shown.
pub(crate) fn counted(result: Result<Count>) -> TierResult {
    TierResult::Ran(result.unwrap_or_else(|error| {
        println!("error: {error:#}");
        Count::FAILED
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(results: &[TierResult]) -> Report {
        let mut report = Report::default();
        for result in results {
            report.add("tier", result.clone(), Took::default());
        }
        report
    }

    #[test]
    fn the_closing_line_sums_the_tiers_that_ran() {
        let ran = TierResult::Ran(Count { passed: 3, failed: 1, ignored: 2 });
        let report = report(&[ran, TierResult::LeftOut, TierResult::Ran(Count::PASSED)]);
        assert_eq!(report.closing_line(), "4 passed, 1 failed");
        assert!(!report.is_success(false));
    }

    #[test]
    fn a_tier_that_could_not_run_is_an_error_only_where_strict() {
        let report =
            report(&[TierResult::Ran(Count::PASSED), TierResult::NotRun("no root".into())]);
        assert!(report.is_success(false));
        assert!(!report.is_success(true));
        assert!(report.table().contains("NOT RUN: tier: no root"), "{}", report.table());
    }

    #[test]
    fn a_run_without_a_tier_is_no_success() {
        assert!(!report(&[TierResult::LeftOut]).is_success(false));
    }
}
