//! Counts checks that are not Rust tests, and prints the result of each.

use anyhow::Result;

use super::report::Count;

/// The checks of one tier.
pub(super) struct Checks {
    tier: &'static str,
    /// The results so far.
    pub(super) count: Count,
}

impl Checks {
    pub(super) fn new(tier: &'static str) -> Self {
        Self { tier, count: Count::default() }
    }

    /// Prints and counts the result of one check.
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

/// A condition as the result of a check; `found` describes what is there instead.
pub(super) fn expect(holds: bool, found: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(anyhow::Error::msg(found())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_counts_once() {
        let mut checks = Checks::new("tier");
        checks.add("holds", expect(true, String::new));
        checks.add("does not", expect(false, || "found 2".into()));
        assert_eq!(checks.count, Count { passed: 1, failed: 1, ignored: 0 });
    }
}
