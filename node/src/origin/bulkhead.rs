//! Limits the loads of one origin: how many run, how many wait, and for how long.
//!
//! A slow origin delays the loads of its own group only. A refusal says when to retry: when
//! about half of the loads that wait now will be done.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_proto::contract::OriginLimits;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Loads that may wait, for each one that may run. Beyond that they are refused at once.
pub(super) const WAITING_PER_SLOT: u32 = 16;
/// Bounds of the retry delay. Below them a retry costs more than waiting; above them a caller would
/// notice too late that the origin has recovered.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

pub(super) struct Bulkhead {
    /// One permit for each load that runs or waits.
    places: Semaphore,
    /// One permit for each load that runs.
    slots: Semaphore,
    concurrency: u32,
    limit: Duration,
    /// Moving mean of a load's time, microseconds; 0 until the first load has ended.
    mean_us: AtomicU64,
}

/// The bulkhead is full, or the load waited too long in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) concurrency: u32,
    pub(super) retry_after: Duration,
}

/// The right to run one load, given back on drop.
pub(super) struct Slot<'b> {
    bulkhead: &'b Bulkhead,
    _place: SemaphorePermit<'b>,
    _slot: SemaphorePermit<'b>,
}

impl Bulkhead {
    /// A concurrency of 0 counts as 1.
    pub(super) fn new(limits: &OriginLimits) -> Self {
        let concurrency = limits.concurrency.max(1);
        let slots = concurrency as usize;
        let limit = Duration::from_millis(limits.timeout_ms);
        Self {
            places: Semaphore::new(slots * (1 + WAITING_PER_SLOT as usize)),
            slots: Semaphore::new(slots),
            concurrency,
            limit,
            mean_us: AtomicU64::new(0),
        }
    }

    /// Waits for a slot, for as long as a load may take.
    pub(super) async fn enter(&self) -> Result<Slot<'_>, Busy> {
        let place = self.places.try_acquire().map_err(|_| self.busy())?;
        let waited = timeout(self.limit, self.slots.acquire()).await;
        let slot = waited.map_err(|_| self.busy())?.expect("never closed");
        Ok(Slot { bulkhead: self, _place: place, _slot: slot })
    }

    /// Loads that run now.
    pub(super) fn running(&self) -> usize {
        self.concurrency as usize - self.slots.available_permits()
    }

    /// Mean time of the latest loads. An estimate until the first one has ended.
    pub(super) fn mean(&self) -> Duration {
        match self.mean_us.load(Ordering::Relaxed) {
            0 => self.limit / 8,
            mean_us => Duration::from_micros(mean_us),
        }
    }

    fn busy(&self) -> Busy {
        let half = self.mean().saturating_mul(WAITING_PER_SLOT / 2);
        let (least, most) = RETRY_AFTER;
        Busy { concurrency: self.concurrency, retry_after: half.clamp(least, most) }
    }

    /// Updates the mean, with a weight of one eighth. Concurrent updates may get lost, which only
    /// makes the mean a little older.
    fn record(&self, time: Duration) {
        let time_us = micros(time).max(1);
        let mean_us = match self.mean_us.load(Ordering::Relaxed) {
            0 => time_us,
            mean_us => (mean_us - mean_us / 8 + time_us / 8).max(1),
        };
        self.mean_us.store(mean_us, Ordering::Relaxed);
    }
}

impl Slot<'_> {
    /// Runs a load.
    ///
    /// # Errors
    /// It did not end within the limit, which is returned in milliseconds.
    pub(super) async fn run<F: Future>(self, load: F) -> Result<F::Output, u64> {
        let limit = self.bulkhead.limit;
        let began = Instant::now();
        let loaded = timeout(limit, load).await;
        self.bulkhead.record(began.elapsed());
        loaded.map_err(|_| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
