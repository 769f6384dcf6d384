//! Protects one origin: everything that a call passes before it asks, in this order. A call loads
//! one key, or the keys of a [`Batcher`].
//!
//! 1. [`Breaker`]: a suspended origin is asked once a second.
//! 2. [`Bucket`]: loads per second.
//! 3. [`Bulkhead`]: concurrent and waiting loads. Loads that arrive faster than they end are shed.
//! 4. The breaker again, because the origin may have failed while the load waited.
//! 5. The time-out.
//!
//! A refusal is an error that says when to retry; what is answered in its place is decided by the
//! cache. Start at [`Guard::load`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_proto::contract::{LoadRate, OriginLimits};
use larder_runtime::clock::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::batch::{Batcher, Part};
use super::breaker::{Breaker, Suspended};
use super::bucket::Bucket;
use super::bulkhead::Bulkhead;
use super::error::{Blame, Error};
use super::loader::{BatchLoader, BatchedLoad, Loaded, Loader};
use super::queue::{Refusal, Requester};
use crate::gather::GatheredKey;

/// Spreads retries: of this many consecutive refusals, the nth asks for a delay n/SPREAD longer
/// than the first.
const SPREAD: u32 = 8;

/// A loader with its protection.
pub struct Guard {
    inner: Arc<dyn Loader>,
    batcher: Batcher,
    bulkhead: Bulkhead,
    state: Mutex<State>,
    /// What the breaker says, read without the lock.
    failing_until_ms: AtomicU64,
    is_suspended: AtomicBool,
    refusals: AtomicU32,
    clock: Clock,
}

/// How an origin fared lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is asked.
    Working,
    /// A load failed within the last second: an entry that may be answered stale is answered
    /// without another load.
    Failing,
    /// Several loads in a row failed: loads are refused until the next probe.
    Suspended,
}

struct State {
    breaker: Breaker,
    bucket: Option<(LoadRate, Bucket)>,
    /// The failure that the breaker recorded last.
    last_failure: Option<Arc<Error>>,
}

impl Guard {
    /// Protects `inner`. A limit of 0 counts as 1.
    #[must_use]
    pub fn new(inner: Arc<dyn Loader>, limits: &OriginLimits, clock: Clock) -> Self {
        let bucket = |rate: LoadRate| {
            let bucket = Bucket::new(&rate, Instant::now());
            (rate, bucket)
        };
        Self {
            inner,
            batcher: Batcher::new(limits.max_keys as usize),
            bulkhead: Bulkhead::new(limits),
            state: Mutex::new(State {
                breaker: Breaker::default(),
                bucket: limits.rate.clone().map(bucket),
                last_failure: None,
            }),
            failing_until_ms: AtomicU64::new(0),
            is_suspended: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            clock,
        }
    }

    /// How the origin fared lately.
    #[must_use]
    pub fn health(&self, now_ms: u64) -> Health {
        if now_ms >= self.failing_until_ms.load(Ordering::Relaxed) {
            Health::Working
        } else if self.is_suspended.load(Ordering::Relaxed) {
            Health::Suspended
        } else {
            Health::Failing
        }
    }

    /// The error of every load now, if the origin is suspended.
    #[must_use]
    pub fn suspension(&self, now_ms: u64) -> Option<Arc<Error>> {
        if self.health(now_ms) != Health::Suspended {
            return None;
        }
        let state = self.state.lock();
        state.breaker.check(now_ms).err().map(|suspended| self.suspended(&state, suspended))
    }

    /// The error of a load that would find the bulkhead full or overloaded now. A load may get it
    /// still if there is none: others may come before it.
    #[must_use]
    pub fn refusal(&self, requester: Requester) -> Option<Arc<Error>> {
        self.bulkhead.refusal(requester).map(|refusal| Arc::new(self.refused(refusal)))
    }

    /// Loads `key` for a request of `requester`, if possible in one call with other keys.
    ///
    /// # Errors
    /// The loader's error, or a refusal: [`Error::Suspended`], [`Error::RateLimited`],
    /// [`Error::Busy`], [`Error::Overloaded`].
    ///
    /// # Cancel safety
    /// Safe. A cancelled probe is followed by another one a second later. Keys that share the call
    /// of a cancelled load are loaded alone.
    pub async fn load(&self, key: &[u8], requester: Requester) -> Result<Loaded, Arc<Error>> {
        self.load_gathered(key, requester, None).await
    }

    /// [`Guard::load`] for a request with several keys.
    pub(crate) async fn load_gathered(
        &self,
        key: &[u8],
        requester: Requester,
        gathered: Option<GatheredKey>,
    ) -> Result<Loaded, Arc<Error>> {
        let Some(loader) = self.inner.batch() else {
            drop(gathered);
            return self.call(key, requester, || self.inner.load(key)).await;
        };
        let outcome = match self.batcher.join(key, gathered).await {
            Part::Lead(mut batch) => {
                let called =
                    self.call(key, requester, || self.load_batch(loader, batch.begin())).await;
                batch.finish(called)
            }
            Part::Follow(outcome) => outcome,
        };
        match outcome? {
            BatchedLoad::Done(loaded) => Ok(loaded),
            BatchedLoad::Failed(error) => Err(Arc::new(error)),
            BatchedLoad::LoadAlone => self.call(key, requester, || self.inner.load(key)).await,
        }
    }

    async fn load_batch(
        &self,
        loader: &dyn BatchLoader,
        keys: Vec<Bytes>,
    ) -> Result<Vec<BatchedLoad>, Error> {
        match &keys[..] {
            [key] => Ok(vec![BatchedLoad::Done(self.inner.load(key).await?)]),
            keys => loader.load_batch(keys).await,
        }
    }

    /// Asks the origin once: one token, one slot, one result for the breaker, which records a
    /// failure under `key`.
    async fn call<T, Call>(
        &self,
        key: &[u8],
        requester: Requester,
        begin: impl FnOnce() -> Call,
    ) -> Result<T, Arc<Error>>
    where
        Call: Future<Output = Result<T, Error>>,
    {
        if let Some(suspended) = self.suspension(self.clock.now_ms()) {
            return Err(suspended);
        }
        self.take_token()?;
        let entered = self.bulkhead.enter(requester).await;
        let slot = entered.map_err(|refusal| Arc::new(self.refused(refusal)))?;
        self.admit()?;
        let loaded = slot.run(begin()).await.unwrap_or_else(|timeout_ms| {
            Err(Error::TimedOut { timeout_ms, pending: self.inner.pending() })
        });
        self.record(key, loaded)
    }

    /// Calls that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.bulkhead.running()
    }

    /// Mean time of the latest calls, ms.
    #[must_use]
    pub fn mean_load_ms(&self) -> u64 {
        u64::try_from(self.bulkhead.mean().as_millis()).unwrap_or(u64::MAX)
    }

    fn take_token(&self) -> Result<(), Arc<Error>> {
        let mut state = self.state.lock();
        let Some((rate, bucket)) = &mut state.bucket else { return Ok(()) };
        bucket.take(Instant::now()).map_err(|wait| {
            let loads_per_second = rate.loads_per_second;
            Arc::new(Error::RateLimited { loads_per_second, retry_after: self.spread(wait) })
        })
    }

    fn refused(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Full { retry_after } => Error::Busy {
                concurrency: self.bulkhead.concurrency(),
                retry_after: self.spread(retry_after),
            },
            Refusal::Shed { wait, load_time, retry_after } => {
                Error::Overloaded { wait, load_time, retry_after: self.spread(retry_after) }
            }
        }
    }

    fn admit(&self) -> Result<(), Arc<Error>> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        let admitted = state.breaker.admit(now_ms);
        self.publish(&state);
        admitted.map_err(|suspended| self.suspended(&state, suspended))
    }

    fn record<T>(&self, key: &[u8], loaded: Result<T, Error>) -> Result<T, Arc<Error>> {
        let loaded = loaded.map_err(Arc::new);
        let mut state = self.state.lock();
        match &loaded {
            Ok(_) => state.breaker.succeeded(),
            Err(error) => match error.blame() {
                Blame::Origin => {
                    state.breaker.failed(key, self.clock.now_ms());
                    state.last_failure = Some(error.clone());
                }
                // The origin answered.
                Blame::Key => state.breaker.succeeded(),
                Blame::Nobody => {}
            },
        }
        self.publish(&state);
        loaded
    }

    fn publish(&self, state: &State) {
        self.failing_until_ms.store(state.breaker.failing_until_ms(), Ordering::Relaxed);
        self.is_suspended.store(state.breaker.is_suspended(), Ordering::Relaxed);
    }

    fn suspended(&self, state: &State, suspended: Suspended) -> Arc<Error> {
        let last = state.last_failure.clone().expect("a failure was recorded before");
        let Suspended { failures, retry_after_ms } = suspended;
        let retry_after = self.spread(Duration::from_millis(retry_after_ms));
        Arc::new(Error::Suspended { last, failures, retry_after })
    }

    /// The delay of the next refusal, which differs from those just before it.
    fn spread(&self, delay: Duration) -> Duration {
        let nth = self.refusals.fetch_add(1, Ordering::Relaxed) % SPREAD;
        delay * (SPREAD + nth) / SPREAD
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("bulkhead", &self.bulkhead).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod tests;
