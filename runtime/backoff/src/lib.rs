//! Exponential back-off with jitter: the delay before try 1, 2, 3, ... after a failure.
//!
//! Pure: it neither sleeps nor draws random numbers. The caller passes a ratio in `0.0..1.0` and
//! sleeps itself, so the members and the operator can seed the jitter and the client needs no
//! further dependency.

use std::time::Duration;

/// The parameters of a [`BackoffPolicy`] contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first delay is zero or above the longest.
    #[error("the first delay must be above zero and not above the longest")]
    Delays,
    /// The factor is below 1.
    #[error("the factor must be 1 or more")]
    Factor,
    /// The jitter is above 100 percent.
    #[error("jitter must be 0 to 100 percent")]
    Jitter,
}

/// How delays grow. Valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    first: Duration,
    factor: u32,
    max: Duration,
    jitter_percent: u32,
}

impl BackoffPolicy {
    /// Delays `first`, `first * factor`, ... up to `max`, each shortened by a random share of up
    /// to `jitter_percent`.
    ///
    /// # Errors
    /// The values contradict each other.
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

    /// The delay before the next try after `failures` failures (0 counts as 1), given a random
    /// ratio in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, failures: u32, ratio: f64) -> Duration {
        let growth = self.factor.saturating_pow(failures.saturating_sub(1));
        let full = self.first.saturating_mul(growth).min(self.max);
        let share = f64::from(self.jitter_percent) / 100.0 * ratio;
        full.mul_f64(1.0 - share)
    }
}

/// A policy and the number of failures since the last success.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// Starts without a failure.
    #[must_use]
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Counts a failure and returns the delay before the next try, given a random ratio in
    /// `0.0..1.0`.
    pub fn next_delay(&mut self, ratio: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures, ratio)
    }

    /// Resets the count after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jitter_percent: u32) -> BackoffPolicy {
        BackoffPolicy::new(Duration::from_secs(1), 2, Duration::from_secs(5), jitter_percent)
            .expect("valid")
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(policy(0));
        let seconds: Vec<u64> = (0..5).map(|_| backoff.next_delay(0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_delay(0.5), Duration::from_secs(1));
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
    fn contradictory_parameters_are_refused() {
        let s = Duration::from_secs;
        assert_eq!(BackoffPolicy::new(s(0), 2, s(5), 0), Err(Error::Delays));
        assert_eq!(BackoffPolicy::new(s(6), 2, s(5), 0), Err(Error::Delays));
        assert_eq!(BackoffPolicy::new(s(1), 0, s(5), 0), Err(Error::Factor));
        assert_eq!(BackoffPolicy::new(s(1), 2, s(5), 101), Err(Error::Jitter));
    }
}
