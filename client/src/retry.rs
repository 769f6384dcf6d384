//! Pure: whether and when the next round of a call starts.
//!
//! A *round* asks every known member once, the owner first, until one answers; the back-off
//! separates rounds. Reads and invalidations are idempotent, so a call is always repeated after a
//! broken connection.

use std::time::Duration;

use larder_backoff::BackoffPolicy;

/// How often a call is repeated, and the delay before each further round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Rounds after the first one; 0 tries once.
    pub retries: u32,
    /// Delays between the rounds.
    pub backoff: BackoffPolicy,
}

impl Default for Retry {
    /// Three more rounds after 1, 2 and 4 seconds, each delay up to a fifth shorter.
    fn default() -> Self {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(4));
        let backoff = BackoffPolicy::new(first, 2, longest, 20).expect("first <= longest");
        Self { retries: 3, backoff }
    }
}

impl Retry {
    /// One round, no further try.
    #[must_use]
    pub fn never() -> Self {
        Self { retries: 0, ..Self::default() }
    }

    /// The delay after `failed` rounds (1 or more), given a random ratio in `0.0..1.0`; `None`
    /// when no round is left.
    pub(crate) fn delay(&self, failed: u32, ratio: f64) -> Option<Duration> {
        (failed <= self.retries).then(|| self.backoff.delay(failed, ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_delays_are_one_two_and_four_seconds() {
        let delays: Vec<_> = (1..=4).map(|n| Retry::default().delay(n, 0.0)).collect();
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(delays, [s(1), s(2), s(4), None]);
    }

    #[test]
    fn jitter_shortens_by_at_most_its_share() {
        for failed in 1..=3 {
            let full = Retry::default().delay(failed, 0.0).expect("a round");
            let cut = Retry::default().delay(failed, 0.999).expect("a round");
            assert!(cut < full && cut >= full.mul_f64(0.8), "{failed}: {cut:?} of {full:?}");
        }
    }
}
