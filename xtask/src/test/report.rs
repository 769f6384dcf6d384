//! What became of each tier, as a table and as one closing line.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How many checks went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Held.
    pub(crate) passed: u64,
    /// Did not hold.
    pub(crate) failed: u64,
    /// Marked as ignored in the code.
    pub(crate) ignored: u64,
}

impl Count {
    /// One check that held.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, ignored: 0 };
    /// One check that did not.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, ignored: 0 };

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// What became of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran to its end.
    Ran(Count),
    /// It should have run and could not, for this reason.
    NotRun(String),
    /// It was not asked for.
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
    rows: Vec<(&'static str, Outcome, Took)>,
}

impl Report {
    /// Adds the next tier.
    pub(crate) fn add(&mut self, tier: &'static str, outcome: Outcome, took: Took) {
        self.rows.push((tier, outcome, took));
    }

    /// The sum over everything that ran.
    pub(crate) fn total(&self) -> Count {
        self.rows.iter().fold(Count::default(), |sum, (_, outcome, _)| match outcome {
            Outcome::Ran(count) => sum.plus(*count),
            Outcome::NotRun(_) | Outcome::LeftOut => sum,
        })
    }

    /// True when nothing failed, something ran, and (with `strict`) nothing was left undone.
    pub(crate) fn holds(&self, strict: bool) -> bool {
        let total = self.total();
        let undone = self.rows.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::NotRun(_)));
        total.failed == 0 && total.passed > 0 && !(strict && undone)
    }

    /// One row a tier; reasons stand below, where a long line cannot break the columns.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<28}{:>8}{:>8}{:>9}{:>9}{:>9}",
            "tier", "passed", "failed", "ignored", "build s", "run s"
        );
        let mut reasons = String::new();
        for (tier, outcome, took) in &self.rows {
            let build = took.building.as_secs_f64();
            let run = took.whole.as_secs_f64() - build;
            let _ = match outcome {
                Outcome::Ran(Count { passed, failed, ignored }) => {
                    writeln!(
                        text,
                        "{tier:<28}{passed:>8}{failed:>8}{ignored:>9}{build:>9.1}{run:>9.1}"
                    )
                }
                Outcome::NotRun(why) => {
                    let _ = writeln!(reasons, "NOT RUN: {tier}: {why}");
                    writeln!(text, "{tier:<28}{:>25}{build:>9.1}{run:>9.1}", "NOT RUN")
                }
                Outcome::LeftOut => {
                    writeln!(text, "{tier:<28}{:>25}{:>9}{:>9}", "left out", "-", "-")
                }
            };
        }
        text + &reasons
    }

    /// The last line of the output; a machine reads it.
    pub(crate) fn closing_line(&self) -> String {
        let Count { passed, failed, .. } = self.total();
        format!("{passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> Report {
        let mut report = Report::default();
        for outcome in outcomes {
            report.add("tier", outcome.clone(), Took::default());
        }
        report
    }

    #[test]
    fn the_closing_line_sums_what_ran() {
        let ran = Outcome::Ran(Count { passed: 3, failed: 1, ignored: 2 });
        let report = report(&[ran, Outcome::LeftOut, Outcome::Ran(Count::PASSED)]);
        assert_eq!(report.closing_line(), "4 passed, 1 failed");
        assert!(!report.holds(false));
    }

    #[test]
    fn a_tier_that_could_not_run_is_an_error_only_where_strict() {
        let report = report(&[Outcome::Ran(Count::PASSED), Outcome::NotRun("no root".into())]);
        assert!(report.holds(false));
        assert!(!report.holds(true));
        assert!(report.table().contains("NOT RUN: tier: no root"), "{}", report.table());
    }

    #[test]
    fn a_run_in_which_nothing_ran_does_not_hold() {
        assert!(!report(&[Outcome::LeftOut]).holds(false));
    }
}
