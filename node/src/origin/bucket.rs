//! Pure: a token bucket, as the generic cell rate algorithm (GCRA) computes it: one instant instead
//! of a token count and a refill. Source: ITU-T I.371, Annex A.
//!
//! The caller passes the time, so a test or a simulation decides it.

use std::time::Duration;

use larder_proto::contract::LoadRate;
use tokio::time::Instant;

/// `loads_per_second` tokens are added per second, and at most `burst` are kept.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Time in which one token is added.
    interval: Duration,
    /// Time in which an empty bucket fills.
    fill_time: Duration,
    /// The bucket is full from this time on.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket. A rate or burst of 0 counts as 1.
    pub(super) fn new(rate: &LoadRate, now: Instant) -> Self {
        // Rounded up, so that no window admits more than the rate.
        let nanos = 1_000_000_000_u64.div_ceil(rate.loads_per_second.max(1).into());
        let interval = Duration::from_nanos(nanos);
        Self { interval, fill_time: interval * rate.burst.max(1), full_at: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The bucket is empty: the time until the next token.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        let missing = (full_at - now).saturating_sub(self.fill_time);
        if missing.is_zero() {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(loads_per_second: u32, burst: u32, now: Instant) -> Bucket {
        Bucket::new(&LoadRate { loads_per_second, burst }, now)
    }

    #[test]
    fn a_full_bucket_admits_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = bucket(10, 3, start);
        assert!((0..3).all(|_| bucket.take(start).is_ok()));
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(60);
        assert_eq!(bucket.take(later), Err(Duration::from_millis(40)), "a refusal takes nothing");
        assert_eq!(bucket.take(start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(100)).is_err());
    }

    #[test]
    fn an_idle_bucket_keeps_no_more_than_its_burst() {
        let start = Instant::now();
        let mut bucket = bucket(10, 3, start);
        let later = start + Duration::from_hours(1);
        assert_eq!((0..10).filter(|_| bucket.take(later).is_ok()).count(), 3);
    }

    #[test]
    fn a_rate_of_zero_counts_as_one_per_second() {
        let start = Instant::now();
        let mut bucket = bucket(0, 0, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_rate_that_divides_no_second_is_not_exceeded_by_rounding() {
        let start = Instant::now();
        let mut bucket = bucket(3, 1, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert!(bucket.take(start + Duration::from_nanos(333_333_333)).is_err());
        assert_eq!(bucket.take(start + Duration::from_nanos(333_333_334)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_the_burst_and_the_rate(
            rate in 1_u32..2_000, burst in 1_u32..50, steps in prop::collection::vec(0_u64..5_000, 200),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now, mut admitted) = (bucket(rate, burst, start), start, Vec::new());
            for step in steps {
                now += Duration::from_micros(step);
                if bucket.take(now).is_ok() {
                    admitted.push(now);
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(rate);
                    let count = last - first + 1;
                    prop_assert!(count as f64 <= allowed + 1e-6, "{count} > {allowed}");
                }
            }
        }

        #[test]
        fn a_refusal_names_the_time_at_which_the_next_token_is_there(
            rate in 1_u32..2_000, burst in 1_u32..50,
        ) {
            let start = Instant::now();
            let mut bucket = bucket(rate, burst, start);
            let wait = (0..=burst).find_map(|_| bucket.take(start).err()).expect("empty");
            prop_assert!(bucket.take(start + wait - Duration::from_nanos(1)).is_err());
            prop_assert!(bucket.take(start + wait).is_ok());
        }
    }
}
