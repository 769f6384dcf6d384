//! Limits the loads of one origin: how many run, how many wait, and for how long.
//!
//! A slow origin delays the loads of its own group only. A refusal says when to retry: when
//! about half of the loads that wait now will be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::OriginLimits;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::error::Error;
use super::loader::{Loaded, Loader};

/// Loads that may wait, for each one that may run. Beyond that they are refused at once.
const WAITING_PER_SLOT: u32 = 16;
/// Bounds of the retry delay. Below them a retry costs more than waiting; above them a caller would
/// notice too late that the origin has recovered.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Spreads retries: of this many consecutive refusals, the nth asks for a delay n/SPREAD longer
/// than the first.
const SPREAD: u32 = 8;

/// A loader with limits.
pub struct Bulkhead {
    inner: Arc<dyn Loader>,
    /// One permit for each load that runs or waits.
    places: Semaphore,
    /// One permit for each load that runs.
    slots: Semaphore,
    concurrency: u32,
    limit: Duration,
    /// Moving mean of a load's time, microseconds.
    mean_us: AtomicU64,
    refusals: AtomicU32,
}

impl Bulkhead {
    /// Limits `inner`. A concurrency of 0 counts as 1.
    #[must_use]
    pub fn new(inner: Arc<dyn Loader>, limits: &OriginLimits) -> Self {
        let concurrency = limits.concurrency.max(1);
        let slots = concurrency as usize;
        let limit = Duration::from_millis(limits.timeout_ms);
        Self {
            inner,
            places: Semaphore::new(slots * (1 + WAITING_PER_SLOT as usize)),
            slots: Semaphore::new(slots),
            concurrency,
            limit,
            // An estimate until the first load has ended.
            mean_us: AtomicU64::new(micros(limit) / 8),
            refusals: AtomicU32::new(0),
        }
    }

    fn busy(&self) -> Error {
        let mean = Duration::from_micros(self.mean_us.load(Ordering::Relaxed));
        let half = mean.saturating_mul(WAITING_PER_SLOT / 2);
        let (least, most) = RETRY_AFTER;
        let nth = self.refusals.fetch_add(1, Ordering::Relaxed) % SPREAD;
        let retry_after = half.clamp(least, most) * (SPREAD + nth) / SPREAD;
        Error::Busy { concurrency: self.concurrency, retry_after }
    }

    /// Updates the mean, with a weight of one eighth. Concurrent updates may get lost, which only
    /// makes the mean a little older.
    fn record(&self, time: Duration) {
        let mean = self.mean_us.load(Ordering::Relaxed);
        self.mean_us.store(mean - mean / 8 + micros(time) / 8, Ordering::Relaxed);
    }

    /// Loads that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.concurrency as usize - self.slots.available_permits()
    }
}

impl std::fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulkhead")
            .field("running", &self.running())
            .field("concurrency", &self.concurrency)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Loader for Bulkhead {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        async move {
            let _place = self.places.try_acquire().map_err(|_| self.busy())?;
            let waited = timeout(self.limit, self.slots.acquire()).await;
            let _slot = waited.map_err(|_| self.busy())?.expect("never closed");
            let began = Instant::now();
            let loaded = timeout(self.limit, self.inner.load(key)).await;
            self.record(began.elapsed());
            loaded.unwrap_or_else(|_| {
                let timeout_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
                Err(Error::TimedOut { timeout_ms, pending: self.inner.pending() })
            })
        }
        .boxed()
    }

    fn warm(&self) {
        self.inner.warm();
    }

    fn pending(&self) -> Option<String> {
        self.inner.pending()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;
    use crate::origin::from_fn;

    fn limits(concurrency: u32) -> OriginLimits {
        OriginLimits { concurrency, timeout_ms: 500 }
    }

    #[tokio::test(start_paused = true)]
    async fn running_and_waiting_loads_stay_within_their_limits() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, peak) = (Arc::clone(&running), Arc::clone(&most));
        let slow = from_fn(move |_| {
            let (running, most) = (Arc::clone(&count), Arc::clone(&peak));
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Loaded::Absent)
            }
        });
        let bulkhead = Bulkhead::new(Arc::new(slow), &limits(2));
        let results = join_all((0..100).map(|_| bulkhead.load(b"k"))).await;
        let served = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(served, 2 * (1 + WAITING_PER_SLOT as usize));
        assert!(results.iter().all(|r| r.as_ref().is_ok_and(|l| *l == Loaded::Absent)
            || matches!(r, Err(Error::Busy { concurrency: 2, .. }))));
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert_eq!(bulkhead.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_origin_frees_its_slot_after_the_limit() {
        let hanging = from_fn(|key: bytes::Bytes| async move {
            if key == "hang" {
                std::future::pending::<()>().await;
            }
            Ok(Loaded::Absent)
        });
        let bulkhead = Bulkhead::new(Arc::new(hanging), &limits(1));
        let (hung, waited) = tokio::join!(bulkhead.load(b"hang"), bulkhead.load(b"k"));
        assert!(
            matches!(hung, Err(Error::TimedOut { timeout_ms: 500, pending: None })),
            "{hung:?}"
        );
        // The other load waited up to the limit, or got the slot at that moment.
        assert!(matches!(waited, Ok(Loaded::Absent) | Err(Error::Busy { .. })), "{waited:?}");
        assert_eq!(bulkhead.load(b"k").await.expect("free again"), Loaded::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_asks_for_a_retry_when_half_of_the_waiting_loads_are_done() {
        let slow = from_fn(|_| async {
            tokio::time::sleep(Duration::from_millis(40)).await;
            Ok(Loaded::Absent)
        });
        let bulkhead = Bulkhead::new(Arc::new(slow), &limits(1));
        for _ in 0..64 {
            bulkhead.load(b"k").await.expect("room");
        }
        let results = join_all((0..100).map(|_| bulkhead.load(b"k"))).await;
        let delays: Vec<Duration> = results
            .iter()
            .filter_map(|result| match result {
                Err(Error::Busy { retry_after, .. }) => Some(*retry_after),
                _ => None,
            })
            .collect();
        // 8 of the 16 waiting loads take 40 ms each; the delays differ by up to 7 eighths.
        let (least, most) = (Duration::from_millis(300), Duration::from_millis(640));
        assert!(delays.len() >= 83, "{}", delays.len());
        assert!(delays.iter().all(|delay| (least..most).contains(delay)), "{delays:?}");
        assert!(delays.iter().collect::<std::collections::HashSet<_>>().len() >= 8, "{delays:?}");
    }
}
