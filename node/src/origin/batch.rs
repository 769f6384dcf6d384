//! Loads of one origin that start at nearly the same time share one call.
//!
//! The load of the first key of a batch leads it: it waits until the call may begin, passes the
//! guard, calls, and hands out the outcomes. The other loads wait for theirs. `Collector` decides
//! who shares a call and when it begins.
//!
//! # Guarantees
//! - A key shares only a call that begins after its load.
//! - A call passes the guard once: it takes one token and one slot, and counts once for the
//!   breaker. A refusal or a failure of the call is that of each of its keys.
//! - A load whose leader is cancelled or panics is made alone.

mod collector;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::collector::{Batch, Collector, Joined, Next};
use super::error::Error;
use super::guard::Guard;
use super::loader::{BatchLoader, BatchedLoad, Loaded};
use crate::gather::GatheredKey;

/// What the call says about one key.
type Outcome = Result<BatchedLoad, Arc<Error>>;
type Reply = oneshot::Sender<Outcome>;

/// The batches of one origin.
pub(super) struct Batcher {
    collector: Mutex<Collector<Reply>>,
    /// A batch became full, or a call ended.
    changed: Notify,
}

/// A batch while its leader works for it. On drop its remaining keys are free to be loaded alone.
struct LedBatch<'b> {
    batcher: &'b Batcher,
    number: u64,
}

impl Batcher {
    /// For at most `max_keys` keys in a call. 0 counts as 1.
    pub(super) fn new(max_keys: usize) -> Self {
        Self { collector: Mutex::new(Collector::new(max_keys)), changed: Notify::new() }
    }

    /// Loads `key` in one call with others. `None` if it must be loaded alone.
    pub(super) async fn load(
        &self,
        guard: &Guard,
        loader: &dyn BatchLoader,
        key: &[u8],
        gathered: Option<GatheredKey>,
    ) -> Option<Result<Loaded, Arc<Error>>> {
        let (reply, answered) = oneshot::channel();
        let gathering = gathered.as_ref().map(GatheredKey::gathering);
        let owned = Bytes::copy_from_slice(key);
        let joined = self.collector.lock().join(owned, gathering, reply, Instant::now());
        drop(gathered);
        let outcome = match joined {
            Joined::Leads(number) => {
                let batch = LedBatch { batcher: self, number };
                batch.ready().await;
                batch.call(guard, loader, key).await
            }
            Joined::Follows { is_full } => {
                if is_full {
                    self.changed.notify_waiters();
                }
                // Without an answer the leader was cancelled or has panicked.
                answered.await.unwrap_or(Ok(BatchedLoad::LoadAlone))
            }
        };
        match outcome {
            Ok(BatchedLoad::Done(loaded)) => Some(Ok(loaded)),
            Ok(BatchedLoad::Failed(error)) => Some(Err(Arc::new(error))),
            Ok(BatchedLoad::LoadAlone) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl LedBatch<'_> {
    /// Waits until the call may begin.
    async fn ready(&self) {
        loop {
            // Before the decision, so that no change after it is missed.
            let changed = self.batcher.changed.notified();
            let next = self.batcher.collector.lock().next(self.number, Instant::now());
            match next {
                Next::Call => return,
                Next::Collect(until) => _ = timeout_at(until, changed).await,
                Next::Gather(gathering, until) => tokio::select! {
                    () = gathering.complete() => {}
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// Calls the origin, replies to the followers and returns the outcome of `key`, the leader's.
    async fn call(&self, guard: &Guard, loader: &dyn BatchLoader, key: &[u8]) -> Outcome {
        let mut followers = Vec::new();
        let called = guard.call(key, || {
            // Keys may have joined until now.
            let batch = self.batcher.collector.lock().begin(self.number, Instant::now());
            let Batch { keys, followers: waiting, .. } = batch.expect("only its leader takes it");
            followers = waiting;
            async move { loader.load_batch(&keys).await }
        });
        let called = called.await;
        match called {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                // A missing outcome is a fault of the loader, but no reason to fail the key.
                let mut next = || Ok(outcomes.next().unwrap_or(BatchedLoad::LoadAlone));
                let own = next();
                followers.into_iter().for_each(|reply| _ = reply.send(next()));
                own
            }
            Err(error) => {
                // A refused call has not begun.
                let refused = self.batcher.collector.lock().end(self.number);
                followers.extend(refused.into_iter().flat_map(|batch| batch.followers));
                followers.into_iter().for_each(|reply| _ = reply.send(Err(error.clone())));
                Err(error)
            }
        }
    }
}

impl Drop for LedBatch<'_> {
    fn drop(&mut self) {
        let abandoned = self.batcher.collector.lock().end(self.number);
        drop(abandoned);
        self.batcher.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
