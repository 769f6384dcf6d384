//! Pure: whether a failing origin is asked. The caller passes the time, in milliseconds on one
//! monotonic clock.
//!
//! | State | Loads | Reached by |
//! | --- | --- | --- |
//! | working | all | a load that succeeds |
//! | failing, for [`PROBE_INTERVAL_MS`] | only those without a stale entry to answer | a load that fails |
//! | suspended | one in [`PROBE_INTERVAL_MS`], the probe | [`FAILURES_TO_SUSPEND`] failures in a row |
//!
//! A key that fails again directly after it failed is not counted again: one bad key says nothing
//! about the origin.

/// Failures in a row, without a success between them, that suspend the origin. More than one,
/// because loads without a stale entry fail while it is suspended.
const FAILURES_TO_SUSPEND: u32 = 5;
/// Time between two probes of a suspended origin.
const PROBE_INTERVAL_MS: u64 = 1_000;

/// The state of one origin.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// The key that failed last. Bounded by the limit of keys.
    failed_key: Vec<u8>,
    /// When the next probe may start, ms.
    probe_at_ms: u64,
}

/// The origin is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspended {
    pub(super) failures: u32,
    /// Time until the next probe, at least 1.
    pub(super) retry_after_ms: u64,
}

impl Breaker {
    /// Admits a load. While the origin is suspended, the admitted load is the probe of this
    /// interval. A probe that never ends is followed by another one after the interval.
    pub(super) fn admit(&mut self, now_ms: u64) -> Result<(), Suspended> {
        self.check(now_ms)?;
        if self.is_suspended() {
            self.probe_at_ms = now_ms + PROBE_INTERVAL_MS;
        }
        Ok(())
    }

    /// [`Breaker::admit`] without the election of a probe.
    pub(super) fn check(&self, now_ms: u64) -> Result<(), Suspended> {
        if !self.is_suspended() || now_ms >= self.probe_at_ms {
            return Ok(());
        }
        Err(Suspended { failures: self.failures, retry_after_ms: self.probe_at_ms - now_ms })
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.probe_at_ms = 0;
    }

    /// Records a failure for which the origin is to blame.
    pub(super) fn failed(&mut self, key: &[u8], now_ms: u64) {
        if self.failures > 0 && self.failed_key == key {
            return;
        }
        key.clone_into(&mut self.failed_key);
        self.failures = self.failures.saturating_add(1);
        self.probe_at_ms = now_ms + PROBE_INTERVAL_MS;
    }

    /// True from the last of the failures in a row until a probe succeeds.
    pub(super) fn is_suspended(&self) -> bool {
        self.failures >= FAILURES_TO_SUSPEND
    }

    /// Until when entries past their TTL are answered without a load, ms; 0 if the origin works.
    pub(super) fn failing_until_ms(&self) -> u64 {
        self.probe_at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];

    /// A breaker after as many failures in a row of different keys, each at the time 0.
    fn after_failures(count: usize) -> Breaker {
        let mut breaker = Breaker::default();
        KEYS[..count].iter().for_each(|key| breaker.failed(key, 0));
        breaker
    }

    #[test]
    fn a_suspended_origin_is_asked_once_a_second() {
        assert_eq!(after_failures(4).admit(0), Ok(()));
        let mut breaker = after_failures(5);
        let probes: Vec<u64> = (0..5_000).filter(|&ms| breaker.admit(ms).is_ok()).collect();
        assert_eq!(probes, [1_000, 2_000, 3_000, 4_000]);
        assert_eq!(breaker.admit(4_600), Err(Suspended { failures: 5, retry_after_ms: 400 }));
    }

    #[test]
    fn a_probe_that_succeeds_ends_the_suspension_and_one_that_fails_prolongs_it() {
        let mut breaker = after_failures(5);
        assert_eq!(breaker.admit(1_000), Ok(()));
        breaker.failed(b"f", 1_300);
        assert!(breaker.admit(2_299).is_err());
        assert_eq!(breaker.admit(2_300), Ok(()));
        assert!(breaker.admit(2_301).is_err(), "one probe in an interval");
        breaker.succeeded();
        assert_eq!((breaker.admit(2_302), breaker.failing_until_ms()), (Ok(()), 0));
    }

    #[test]
    fn a_success_between_failures_keeps_the_origin_in_use() {
        let mut breaker = after_failures(4);
        breaker.succeeded();
        breaker.failed(b"f", 10);
        assert_eq!((breaker.admit(10), breaker.failing_until_ms()), (Ok(()), 1_010));
    }

    #[test]
    fn one_bad_key_neither_suspends_the_origin_nor_prolongs_its_failure() {
        let mut breaker = Breaker::default();
        for round in 0..100 {
            breaker.failed(b"bad", round * 1_000);
            assert_eq!(breaker.admit(round * 1_000), Ok(()));
        }
        assert_eq!(breaker.failing_until_ms(), 1_000);
    }
}
