//! The wall between a member and an origin: so many loads at a time, so many waiting, so long.
//!
//! A slow origin costs its own group's loads their time and nobody else anything.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::OriginLimits;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Error, Loaded, Loader};

/// Loads that may wait for each one that may run; more are refused at once.
const WAITING_PER_SLOT: usize = 16;

/// A loader with limits.
pub struct Bulkhead {
    inner: Arc<dyn Loader>,
    /// One permit for each load that runs or waits.
    places: Semaphore,
    /// One permit for each load that runs.
    slots: Semaphore,
    concurrency: u32,
    limit: Duration,
}

impl Bulkhead {
    /// Puts `inner` behind `limits`. A concurrency of 0 counts as 1.
    #[must_use]
    pub fn new(inner: Arc<dyn Loader>, limits: &OriginLimits) -> Self {
        let concurrency = limits.concurrency.max(1);
        let slots = concurrency as usize;
        Self {
            inner,
            places: Semaphore::new(slots * (1 + WAITING_PER_SLOT)),
            slots: Semaphore::new(slots),
            concurrency,
            limit: Duration::from_millis(limits.timeout_ms),
        }
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
        let busy = || Error::Busy { concurrency: self.concurrency };
        async move {
            let _place = self.places.try_acquire().map_err(|_| busy())?;
            let waited = timeout(self.limit, self.slots.acquire()).await.map_err(|_| busy())?;
            let _slot = waited.expect("never closed");
            let timeout_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
            let loaded = timeout(self.limit, self.inner.load(key)).await;
            loaded.unwrap_or(Err(Error::TimedOut { timeout_ms }))
        }
        .boxed()
    }
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
    async fn no_more_loads_run_than_may_and_no_more_wait() {
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
        assert_eq!(served, 2 * (1 + WAITING_PER_SLOT));
        assert!(results.iter().all(|r| r.as_ref().is_ok_and(|l| *l == Loaded::Absent)
            || matches!(r, Err(Error::Busy { concurrency: 2 }))));
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
        assert!(matches!(hung, Err(Error::TimedOut { timeout_ms: 500 })), "{hung:?}");
        // The one behind it waited as long as it may, or got the slot at that moment.
        assert!(matches!(waited, Ok(Loaded::Absent) | Err(Error::Busy { .. })), "{waited:?}");
        assert_eq!(bulkhead.load(b"k").await.expect("free again"), Loaded::Absent);
    }
}
