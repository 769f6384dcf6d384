//! Single flight: concurrent callers of one key share one piece of work.
//!
//! The work runs in a task of its own ([`Tasks`]); callers only wait for its outcome. This module
//! tracks which caller waits for which work. The caller that starts the work decides what it does
//! and whether its result is stored (the engine's fence rejects a result that an invalidation
//! outdated).
//!
//! # Guarantees
//! - Between [`Flights::join`] and the end of the work, every join of the key waits for the same
//!   outcome, except after [`Flights::forget`].
//! - The end of the work, whether by result, panic or abort, frees the key: the next join starts
//!   new work. The key is free before the first waiter gets the outcome.
//!
//! # Cancel safety
//! Dropping a [`Flight`] affects no other caller, even if its caller started the work.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Work in flight by key. Clones share it.
pub struct Flights<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// Never more than `max` keys: `join` refuses further ones.
    by_key: Mutex<KeyTable<T>>,
    max: usize,
}

struct KeyTable<T> {
    flights: HashMap<Bytes, Started<T>>,
    /// Number of the latest flight. Distinguishes a flight from its successor under the same key.
    last: u64,
}

struct Started<T> {
    number: u64,
    outcome: watch::Receiver<Option<T>>,
    latest_deadline: LatestDeadline,
}

/// What the work of a flight gets.
#[derive(Debug)]
pub struct FlightWork {
    /// The key, in memory of its own.
    pub key: Bytes,
    /// Number of the flight. See [`Flights::is_forgotten`].
    pub number: u64,
    /// Until when callers wait for the outcome.
    pub latest_deadline: LatestDeadline,
}

/// The latest deadline of the callers of one flight. It only ever grows. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LatestDeadline(Arc<Mutex<Option<Instant>>>);

/// One caller's wait for an outcome.
#[derive(Debug)]
pub struct Flight<T> {
    outcome: watch::Receiver<Option<T>>,
    latest_deadline: LatestDeadline,
    /// True for the caller whose join started the work.
    pub leader: bool,
}

/// Why a join or a wait failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number of keys in flight is at its limit.
    #[error("{max} keys are in flight already")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The caller's deadline passed. The work continues.
    #[error("the deadline passed")]
    Deadline,
    /// The work ended without an outcome because it panicked or its runtime stopped.
    #[error("the work ended without an outcome")]
    Lost,
}

/// Frees the key on drop and, by dropping the sender, wakes the remaining waiters. So this also
/// happens when the work panics or its task is dropped.
struct Leader<T> {
    flights: Arc<Inner<T>>,
    key: Bytes,
    number: u64,
    outcome: watch::Sender<Option<T>>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// An empty table for at most `max` keys.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let by_key = Mutex::new(KeyTable { flights: HashMap::new(), last: 0 });
        Self(Arc::new(Inner { by_key, max }))
    }

    /// Joins the work in flight for `key`, or starts `work` as a task called `name`. Returns at
    /// once. `work` is called only for a leader, outside the lock.
    ///
    /// # Errors
    /// [`Error::Full`] if another key would exceed the limit.
    pub fn join<F>(
        &self,
        key: &[u8],
        tasks: &Tasks,
        name: &'static str,
        work: impl FnOnce(FlightWork) -> F,
    ) -> Result<Flight<T>, Error>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut by_key = self.0.by_key.lock();
        if let Some(started) = by_key.flights.get(key) {
            let Started { outcome, latest_deadline, .. } = started;
            let (outcome, latest_deadline) = (outcome.clone(), latest_deadline.clone());
            return Ok(Flight { outcome, latest_deadline, leader: false });
        }
        if by_key.flights.len() >= self.0.max {
            return Err(Error::Full { max: self.0.max });
        }
        // A copy, because the caller's key may be a slice that keeps its whole receive buffer
        // alive.
        let key = Bytes::copy_from_slice(key);
        let (sender, outcome) = watch::channel(None);
        by_key.last += 1;
        let number = by_key.last;
        let latest_deadline = LatestDeadline::default();
        let started =
            Started { number, outcome: outcome.clone(), latest_deadline: latest_deadline.clone() };
        by_key.flights.insert(key.clone(), started);
        drop(by_key);

        let leader = Leader { flights: self.0.clone(), key: key.clone(), number, outcome: sender };
        let work = work(FlightWork { key, number, latest_deadline: latest_deadline.clone() });
        tasks.spawn(name, async move {
            let outcome = work.await;
            leader.finish(outcome);
        });
        Ok(Flight { outcome, latest_deadline, leader: true })
    }

    /// Detaches the flight of `key`, whose outcome is outdated: the next join starts new work.
    /// Callers that already wait still get the outcome.
    pub fn forget(&self, key: &[u8]) {
        self.0.by_key.lock().flights.remove(key);
    }

    /// Detaches every flight.
    pub fn forget_all(&self) {
        self.0.by_key.lock().flights.clear();
    }

    /// True if a flight that still runs was detached, for good: its work may join the key's next
    /// flight without waiting for itself.
    #[must_use]
    pub fn is_forgotten(&self, key: &[u8], number: u64) -> bool {
        self.0.by_key.lock().flights.get(key).is_none_or(|started| started.number != number)
    }

    /// True if the key is in flight.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.by_key.lock().flights.contains_key(key)
    }

    /// Keys in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.by_key.lock().flights.len()
    }

    /// True when nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone> Flight<T> {
    /// Waits for the outcome of the work until `deadline`, which the work can read.
    ///
    /// # Errors
    /// [`Error::Deadline`] or [`Error::Lost`].
    ///
    /// # Cancel safety
    /// Safe: the work continues.
    pub async fn outcome(self, deadline: Instant) -> Result<T, Error> {
        self.latest_deadline.extend(deadline);
        self.outcome_before(sleep_until(deadline)).await
    }

    /// Waits for the outcome of the work until `end` is ready, which the work cannot see.
    ///
    /// # Errors
    /// [`Error::Deadline`] or [`Error::Lost`].
    ///
    /// # Cancel safety
    /// Safe: the work continues.
    pub async fn outcome_before(mut self, end: impl Future<Output = ()>) -> Result<T, Error> {
        tokio::select! {
            biased;
            outcome = self.outcome.wait_for(Option::is_some) => {
                Ok(outcome.map_err(|_| Error::Lost)?.clone().expect("waited for"))
            }
            () = end => Err(Error::Deadline),
        }
    }
}

impl LatestDeadline {
    /// The latest deadline so far; `None` while no caller waits yet.
    #[must_use]
    pub fn get(&self) -> Option<Instant> {
        *self.0.lock()
    }

    fn extend(&self, deadline: Instant) {
        let mut latest = self.0.lock();
        *latest = latest.max(Some(deadline));
    }
}

impl<T> Leader<T> {
    fn finish(self, outcome: T) {
        self.free();
        self.outcome.send_replace(Some(outcome));
    }

    /// Idempotent. Does not free a successor under the same key.
    fn free(&self) {
        let mut by_key = self.flights.by_key.lock();
        if by_key.flights.get(&self.key).is_some_and(|s| s.number == self.number) {
            by_key.flights.remove(&self.key);
        }
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.free();
    }
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = self.0.by_key.lock().flights.len();
        f.debug_struct("Flights").field("keys", &keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
