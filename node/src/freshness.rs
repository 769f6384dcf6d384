//! Pure: what an entry is worth at a given time, and the TTL of a new one.
//!
//! It reads no clock, draws no random number and imports no engine; all of these are arguments. All
//! times are milliseconds on one monotonic clock.

use larder_proto::contract::Freshness;

/// When an entry was loaded and until when it is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the origin's answer was stored.
    pub stored_at_ms: u64,
    /// The entry is fresh before this time.
    pub fresh_until_ms: u64,
}

/// The kind of an entry. Absent entries have their own TTL and no stale windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The origin has a value.
    Present,
    /// The origin has no such key.
    Absent,
}

/// What may be done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it.
    Fresh {
        /// Time until it is no longer fresh; at least 1.
        remaining_ms: u64,
    },
    /// Answer it, marked stale, and start one reload.
    StaleAndReload,
    /// Load. Answer it, marked stale, only if the load fails.
    StaleIfError,
    /// Load. The entry must not be answered.
    Expired,
}

/// When a new entry ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// End of its freshness.
    pub fresh_until_ms: u64,
    /// End of the last window in which it may be answered.
    pub keep_until_ms: u64,
}

/// Judges an entry by the contract in force now. A shorter TTL than the one under which the entry
/// was stored applies at once to stored entries.
#[must_use]
pub fn judge(times: Times, kind: Kind, contract: &Freshness, now_ms: u64) -> Verdict {
    let end = times.end_ms(match kind {
        Kind::Present => contract.ttl_ms,
        Kind::Absent => contract.negative_ttl_ms,
    });
    if now_ms < end {
        return Verdict::Fresh { remaining_ms: end - now_ms };
    }
    let past_ms = now_ms - end;
    match kind {
        Kind::Absent => Verdict::Expired,
        Kind::Present if past_ms < contract.stale_while_revalidate_ms => Verdict::StaleAndReload,
        Kind::Present if past_ms < contract.stale_if_error_ms => Verdict::StaleIfError,
        Kind::Present => Verdict::Expired,
    }
}

/// How long a value past its TTL may still be answered, for a window of `window_ms` after it.
#[must_use]
pub fn stale_remaining_ms(times: Times, contract: &Freshness, window_ms: u64, now_ms: u64) -> u64 {
    times.end_ms(contract.ttl_ms).saturating_add(window_ms).saturating_sub(now_ms)
}

impl Times {
    /// The end of freshness, for a TTL that may be shorter than when the entry was stored.
    fn end_ms(self, ttl_ms: u64) -> u64 {
        self.fresh_until_ms.min(self.stored_at_ms.saturating_add(ttl_ms))
    }
}

/// When an entry stored now ends. `ratio` is a random number in `0.0..1.0`: the TTL is shortened by
/// that share of the jitter, so that entries loaded together do not expire together.
#[must_use]
pub fn life(contract: &Freshness, kind: Kind, ratio: f64, now_ms: u64) -> Life {
    let (full_ms, windows_ms) = match kind {
        Kind::Present => {
            (contract.ttl_ms, contract.stale_while_revalidate_ms.max(contract.stale_if_error_ms))
        }
        Kind::Absent => (contract.negative_ttl_ms, 0),
    };
    let fresh_until_ms = now_ms.saturating_add(shortened(full_ms, contract.jitter_percent, ratio));
    Life { fresh_until_ms, keep_until_ms: fresh_until_ms.saturating_add(windows_ms) }
}

/// `full_ms` reduced by `ratio` of `percent` of it. 0 only if `full_ms` is 0.
fn shortened(full_ms: u64, percent: u32, ratio: f64) -> u64 {
    let most_ms = u128::from(full_ms) * u128::from(percent.min(100)) / 100;
    let most_ms = u64::try_from(most_ms).expect("at most full_ms");
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a random share needs no last bit; 0 <= ratio < 1 keeps it in range"
    )]
    let cut_ms = (most_ms as f64 * ratio.clamp(0.0, 1.0)) as u64;
    (full_ms - cut_ms.min(full_ms)).max(full_ms.min(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTRACT: Freshness = Freshness {
        ttl_ms: 1_000,
        jitter_percent: 10,
        stale_while_revalidate_ms: 200,
        stale_if_error_ms: 5_000,
        negative_ttl_ms: 100,
        early_refresh_percent: 0,
    };

    fn present(stored_at_ms: u64, now_ms: u64) -> Verdict {
        let times = Times { stored_at_ms, fresh_until_ms: stored_at_ms + 1_000 };
        judge(times, Kind::Present, &CONTRACT, now_ms)
    }

    #[test]
    fn an_entry_passes_through_its_windows_in_order() {
        for (now_ms, expected) in [
            (500, Verdict::Fresh { remaining_ms: 1_000 }),
            (501, Verdict::Fresh { remaining_ms: 999 }),
            (1_499, Verdict::Fresh { remaining_ms: 1 }),
            (1_500, Verdict::StaleAndReload),
            (1_699, Verdict::StaleAndReload),
            (1_700, Verdict::StaleIfError),
            (6_499, Verdict::StaleIfError),
            (6_500, Verdict::Expired),
        ] {
            assert_eq!(present(500, now_ms), expected, "at {now_ms}");
        }
    }

    #[test]
    fn a_stale_value_may_be_answered_until_the_end_of_its_window() {
        let times = Times { stored_at_ms: 500, fresh_until_ms: 1_500 };
        let left_ms = |window_ms, now_ms| stale_remaining_ms(times, &CONTRACT, window_ms, now_ms);
        for now_ms in [1_500, 1_600, 1_699] {
            let end_ms = now_ms + left_ms(CONTRACT.stale_while_revalidate_ms, now_ms);
            assert_eq!(present(500, end_ms - 1), Verdict::StaleAndReload);
            assert_eq!(present(500, end_ms), Verdict::StaleIfError);
            let end_ms = now_ms + left_ms(CONTRACT.stale_if_error_ms, now_ms);
            assert_eq!(present(500, end_ms - 1), Verdict::StaleIfError);
            assert_eq!(present(500, end_ms), Verdict::Expired);
        }
        assert_eq!(left_ms(CONTRACT.stale_while_revalidate_ms, 1_700), 0);
    }

    #[test]
    fn absent_has_its_own_ttl_and_no_stale_window() {
        let times = Times { stored_at_ms: 0, fresh_until_ms: 100 };
        let at = |now_ms| judge(times, Kind::Absent, &CONTRACT, now_ms);
        assert_eq!(at(99), Verdict::Fresh { remaining_ms: 1 });
        assert_eq!(at(100), Verdict::Expired);
    }

    #[test]
    fn a_shorter_ttl_applies_to_stored_entries() {
        let times = Times { stored_at_ms: 0, fresh_until_ms: 60_000 };
        assert_eq!(judge(times, Kind::Present, &CONTRACT, 1_000), Verdict::StaleAndReload);
        let longer = Freshness { ttl_ms: 90_000, ..CONTRACT };
        let verdict = judge(times, Kind::Present, &longer, 59_999);
        assert_eq!(verdict, Verdict::Fresh { remaining_ms: 1 });
        assert_eq!(judge(times, Kind::Present, &longer, 60_000), Verdict::StaleAndReload);
    }

    #[test]
    fn absent_with_a_ttl_of_zero_is_not_fresh() {
        let contract = Freshness { negative_ttl_ms: 0, ..CONTRACT };
        let kept = life(&contract, Kind::Absent, 0.5, 70);
        assert_eq!(kept, Life { fresh_until_ms: 70, keep_until_ms: 70 });
    }

    #[test]
    fn entries_loaded_together_expire_apart() {
        // The jitter spreads 10,000 entries over 6 s; no second may get three times its share.
        let contract = Freshness { ttl_ms: 60_000, ..CONTRACT };
        let mut seconds = [0_u32; 61];
        for i in 0..10_000 {
            let kept = life(&contract, Kind::Present, f64::from(i) / 10_000.0, 0);
            let second = usize::try_from(kept.fresh_until_ms / 1_000).expect("at most 60");
            seconds[second] += 1;
        }
        let worst = seconds.iter().max().expect("61 of them");
        assert!(*worst <= 3 * 10_000 / 6, "{seconds:?}");
    }

    proptest! {
        #[test]
        fn the_ttl_is_shortened_by_no_more_than_the_jitter(
            ttl_ms in 0..u64::MAX / 4,
            percent in 0_u32..=100,
            ratio in 0.0..1.0_f64,
            now in 0..1_u64 << 40,
        ) {
            let contract = Freshness { ttl_ms, jitter_percent: percent, ..CONTRACT };
            let kept = life(&contract, Kind::Present, ratio, now);
            let lived = kept.fresh_until_ms - now;
            prop_assert!(lived <= ttl_ms);
            prop_assert!(u128::from(lived) * 100 >= u128::from(ttl_ms) * u128::from(100 - percent));
            prop_assert_eq!(kept.keep_until_ms, kept.fresh_until_ms + 5_000);
            prop_assert!(ttl_ms == 0 || lived > 0);
        }

        #[test]
        fn no_entry_is_fresh_past_its_ttl_or_answered_past_its_windows(
            stored in 0..1_000_000_u64, life_ms in 0..10_000_u64, past in 0..20_000_u64,
        ) {
            let times = Times { stored_at_ms: stored, fresh_until_ms: stored + life_ms };
            let end = stored + life_ms.min(CONTRACT.ttl_ms);
            let verdict = judge(times, Kind::Present, &CONTRACT, end + past);
            let fresh = matches!(verdict, Verdict::Fresh { .. });
            prop_assert!(!fresh);
            prop_assert_eq!(verdict == Verdict::Expired, past >= 5_000);
        }
    }
}
