//! Exponential backoff with jitter: the delay before try 1, 2, 3, ... after a failure.

use std::time::Duration;

use crate::random::Random;

/// A policy was asked for that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first delay is zero or above the longest.
    #[error("the first delay must be above zero and not above the longest")]
    Delays,
    /// The factor is below 1.
    #[error("the factor must be 1 or more")]
    Factor,
    /// Jitter above 100 percent.
    #[error("jitter must be 0 to 100 percent")]
    Jitter,
}

/// How delays grow. Valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    first: Duration,
    factor: u32,
    max: Duration,
    jitter_percent: u32,
}

impl Policy {
    /// Delays `first`, `first * factor`, ... up to `max`, each shortened by a random share of up
    /// to `jitter_percent`.
    ///
    /// # Errors
    /// When the values contradict each other.
    pub const fn new(
        first: Duration,
        factor: u32,
        max: Duration,
        jitter_percent: u32,
    ) -> Result<Self, Error> {
        if first.is_zero() || first.as_nanos() > max.as_nanos() {
            return Err(Error::Delays);
        }
        if factor == 0 {
            return Err(Error::Factor);
        }
        if jitter_percent > 100 {
            return Err(Error::Jitter);
        }
        Ok(Self { first, factor, max, jitter_percent })
    }

    /// The delay before the try after `failures` failures (0 counts as 1), given a random ratio
    /// in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, failures: u32, ratio: f64) -> Duration {
        let growth = self.factor.saturating_pow(failures.saturating_sub(1));
        let full = self.first.saturating_mul(growth).min(self.max);
        let share = f64::from(self.jitter_percent) / 100.0 * ratio;
        full.mul_f64(1.0 - share)
    }
}

/// A policy with its count of failures.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    random: Random,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub fn new(policy: Policy, random: Random) -> Self {
        Self { policy, random, failures: 0 }
    }

    /// Counts a failure and tells how long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures, self.random.ratio())
    }

    /// Forgets the failures: the last try succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jitter_percent: u32) -> Policy {
        Policy::new(Duration::from_secs(1), 2, Duration::from_secs(5), jitter_percent)
            .expect("valid")
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(policy(0), Random::seeded(1));
        let seconds: Vec<u64> = (0..5).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }

    #[test]
    fn jitter_only_shortens_and_stays_in_its_share() {
        for failures in 0..100 {
            for ratio in [0.0, 0.3, 0.999] {
                let (full, cut) =
                    (policy(0).delay(failures, ratio), policy(50).delay(failures, ratio));
                assert!(cut <= full && cut >= full.mul_f64(0.5), "{failures} {ratio}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let s = Duration::from_secs;
        assert_eq!(Policy::new(s(0), 2, s(5), 0), Err(Error::Delays));
        assert_eq!(Policy::new(s(6), 2, s(5), 0), Err(Error::Delays));
        assert_eq!(Policy::new(s(1), 0, s(5), 0), Err(Error::Factor));
        assert_eq!(Policy::new(s(1), 2, s(5), 101), Err(Error::Jitter));
    }
}
