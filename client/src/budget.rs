//! Bounds retries to a share of the calls, so that a failing cluster does not get several times its
//! usual load.
//!
//! A token bucket, as Finagle's `RetryBudget` and gRPC's retry throttling (gRFC A6): each call adds
//! a part of a token, each retry takes a whole one, and a small rate is always allowed. A retry
//! counts if a living member may have worked on the try before it. After a broken connection, or a
//! refusal by a member that is starting or stopping, the next member is tried without a count: the
//! load on the members that serve does not exceed the calls. The same holds for a member that falls
//! silent while another one answers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::time::Instant;

/// Balances are in thousandths of a retry.
const RETRY: i64 = 1_000;
/// What one call adds: a tenth of a retry. Finagle's default is a fifth, gRFC A6 has a tenth.
const PER_CALL: i64 = RETRY / 10;
/// Retries per second that are allowed without any calls. Source: Finagle's default.
const PER_SECOND: i64 = 10 * RETRY;
/// The largest balance, which is also the first: what ten seconds without calls add. Source: the
/// time to live in Finagle's default.
const MOST: i64 = 10 * PER_SECOND;

pub(crate) struct RetryBudget {
    balance: AtomicI64,
    started: Instant,
    /// Milliseconds since `started` up to which [`PER_SECOND`] was added.
    added_ms: AtomicU64,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        let (balance, added_ms) = (AtomicI64::new(MOST), AtomicU64::new(0));
        Self { balance, started: Instant::now(), added_ms }
    }

    /// Counts a call.
    pub(crate) fn call(&self) {
        // Read first: while no call fails, nothing is written.
        if self.balance.load(Ordering::Relaxed) < MOST {
            self.add(PER_CALL);
        }
    }

    /// Takes a retry; false if there is none.
    pub(crate) fn retry(&self) -> bool {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Only one of several threads adds a span of time.
        let since = self.added_ms.fetch_max(now_ms, Ordering::Relaxed);
        let ms = i64::try_from(now_ms.saturating_sub(since)).unwrap_or(i64::MAX);
        self.add(ms.saturating_mul(PER_SECOND / 1_000));
        let take = |balance: i64| (balance >= RETRY).then(|| balance - RETRY);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn add(&self, amount: i64) {
        let add = |balance: i64| Some(balance.saturating_add(amount).min(MOST));
        _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn retries(budget: &RetryBudget) -> usize {
        std::iter::repeat_with(|| budget.retry()).take_while(|allowed| *allowed).count()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_tenth_of_the_calls_and_ten_a_second() {
        let budget = RetryBudget::new();
        assert_eq!(retries(&budget), 100, "the first balance");
        (0..500).for_each(|_| budget.call());
        assert_eq!(retries(&budget), 50);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(retries(&budget), 15);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        (0..5_000).for_each(|_| budget.call());
        assert_eq!(retries(&budget), 100, "the balance is bounded");
    }
}
