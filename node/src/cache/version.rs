//! The versions of values: one number per load, which orders the loads of a key.
//!
//! A version is the larger of the successor of the largest version seen, here or from a peer, and
//! the Unix time in microseconds at the load: a hybrid logical clock (Kulkarni et al., 2014). So
//! versions grow over a restart and from one owner to the next, as far as the members' clocks agree
//! when an owner has seen no answer of its predecessor. The time only keeps versions of processes
//! apart; nothing may read a time from a version.

use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Versions {
    /// Unix time at 0 on the member's monotonic clock, microseconds.
    started_at_us: u64,
    /// The largest version given or seen.
    last: AtomicU64,
}

impl Versions {
    pub(super) fn new(started_at_us: u64) -> Self {
        Self { started_at_us, last: AtomicU64::new(0) }
    }

    /// The version of a load that ends now on the member's monotonic clock.
    pub(super) fn next(&self, now_ms: u64) -> u64 {
        let now_us = self.started_at_us.saturating_add(now_ms.saturating_mul(1_000));
        let next = |last: u64| Some(last.saturating_add(1).max(now_us));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        next(last.expect("`next` gives a value")).expect("a value")
    }

    /// Keeps later versions above one that a peer gave.
    pub(super) fn saw(&self, version: u64) {
        self.last.fetch_max(version, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_within_one_millisecond_and_after_a_restart() {
        let first = Versions::new(5_000_000);
        let given: Vec<u64> = (0..1_000).map(|_| first.next(10)).collect();
        assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
        let restarted = Versions::new(5_020_000);
        assert!(restarted.next(0) > *given.last().expect("1,000 of them"));
    }

    #[test]
    fn a_version_exceeds_every_version_seen_even_of_a_member_whose_clock_is_ahead() {
        let (ahead, behind) = (Versions::new(9_000_000), Versions::new(1_000_000));
        let theirs = ahead.next(7);
        behind.saw(theirs);
        assert_eq!(behind.next(7), theirs + 1);
    }
}
