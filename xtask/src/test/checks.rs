//! Checks that are no Rust tests: each is shown with how it went, and counted.

use anyhow::Result;

use super::report::Count;

/// The checks of one tier.
pub(super) struct Checks {
    tier: &'static str,
    /// How they went so far.
    pub(super) count: Count,
}

impl Checks {
    /// None yet.
    pub(super) fn of(tier: &'static str) -> Self {
        Self { tier, count: Count::default() }
    }

    /// Shows and counts one check.
    pub(super) fn add(&mut self, name: &str, result: Result<()>) {
        let tier = self.tier;
        match result {
            Ok(()) => {
                println!("{tier}: {name} ... ok");
                self.count = self.count.plus(Count::PASSED);
            }
            Err(error) => {
                println!("{tier}: {name} ... FAILED\n{error:#}");
                self.count = self.count.plus(Count::FAILED);
            }
        }
    }
}

/// A condition as the result of a check; `why` says what was found instead.
pub(super) fn expect(holds: bool, why: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(anyhow::Error::msg(why())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_counts_once() {
        let mut checks = Checks::of("tier");
        checks.add("holds", expect(true, String::new));
        checks.add("does not", expect(false, || "found 2".into()));
        assert_eq!(checks.count, Count { passed: 1, failed: 1, ignored: 0 });
    }
}
