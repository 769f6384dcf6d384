//! Limits the loads of one origin: how many run, how many wait, and for how long.
//!
//! A slow origin delays the loads of its own group only. [`Queue`] decides which loads may wait.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_proto::contract::OriginLimits;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::queue::{Queue, Refusal, Requester};

pub(super) struct Bulkhead {
    /// One permit for each load that may run.
    slots: Semaphore,
    /// One permit for each kind of requester: for the first of its waiting loads. Only the first
    /// ones wait for a slot, in the order in which they came, so the two lines take turns.
    heads: [Semaphore; 2],
    queue: Mutex<Queue>,
    concurrency: u32,
    limit: Duration,
    /// Moving mean of a load's time, microseconds; 0 until the first load has ended.
    mean_us: AtomicU64,
}

/// The right to run one load, given back on drop.
pub(super) struct Slot<'b> {
    bulkhead: &'b Bulkhead,
    requester: Requester,
    number: u64,
    _permit: SemaphorePermit<'b>,
}

/// A place in the queue, given back on drop.
struct Place<'b> {
    bulkhead: &'b Bulkhead,
    requester: Requester,
}

impl Bulkhead {
    /// A concurrency of 0 counts as 1.
    pub(super) fn new(limits: &OriginLimits) -> Self {
        let concurrency = limits.concurrency.max(1);
        let limit = Duration::from_millis(limits.timeout_ms);
        Self {
            slots: Semaphore::new(concurrency as usize),
            heads: [const { Semaphore::const_new(1) }; 2],
            queue: Mutex::new(Queue::new(concurrency, limit)),
            concurrency,
            limit,
            mean_us: AtomicU64::new(0),
        }
    }

    /// Takes a slot, or waits for one, for as long as a load may take.
    pub(super) async fn enter(&self, requester: Requester) -> Result<Slot<'_>, Refusal> {
        let permit = match self.free_slot() {
            Some(permit) => permit,
            None => self.wait(requester).await?,
        };
        let number = self.queue.lock().started(requester, Instant::now());
        Ok(Slot { bulkhead: self, requester, number, _permit: permit })
    }

    /// The refusal that a load would get now.
    pub(super) fn refusal(&self, requester: Requester) -> Option<Refusal> {
        if self.slots.available_permits() > 0 {
            return None;
        }
        self.queue.lock().check(requester, self.measured_mean(), Instant::now()).err()
    }

    /// `None` while loads wait: a slot that is free then belongs to the first of them.
    fn free_slot(&self) -> Option<SemaphorePermit<'_>> {
        let queue = self.queue.lock();
        if queue.waiting() == 0 { self.slots.try_acquire().ok() } else { None }
    }

    async fn wait(&self, requester: Requester) -> Result<SemaphorePermit<'_>, Refusal> {
        self.queue.lock().enter(requester, self.measured_mean(), Instant::now())?;
        let _place = Place { bulkhead: self, requester };
        let in_turn = async {
            let _head = self.heads[requester as usize].acquire().await.expect("never closed");
            self.slots.acquire().await.expect("never closed")
        };
        let waited = timeout(self.limit, in_turn).await;
        waited.map_err(|_| self.queue.lock().full(self.measured_mean()))
    }

    pub(super) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// Loads that run now.
    pub(super) fn running(&self) -> usize {
        self.concurrency as usize - self.slots.available_permits()
    }

    /// Mean time of the latest loads. An estimate until the first one has ended.
    pub(super) fn mean(&self) -> Duration {
        self.measured_mean().unwrap_or(self.limit / 8)
    }

    fn measured_mean(&self) -> Option<Duration> {
        let mean_us = self.mean_us.load(Ordering::Relaxed);
        (mean_us > 0).then(|| Duration::from_micros(mean_us))
    }

    /// Updates the mean, with a weight of one eighth. A load counts as twice the mean at most: when
    /// this member stalls, all running loads are slow at once, and the next ones are not.
    /// Concurrent updates may get lost, which only makes the mean a little older.
    fn record(&self, time: Duration) {
        let time_us = micros(time).max(1);
        let mean_us = match self.mean_us.load(Ordering::Relaxed) {
            0 => time_us,
            mean_us => (mean_us - mean_us / 8 + time_us.min(2 * mean_us) / 8).max(1),
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

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.bulkhead.queue.lock().ended(self.requester, self.number);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bulkhead.queue.lock().leave(self.requester);
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
