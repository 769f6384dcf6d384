//! Loads of one origin that start at nearly the same time share one call.
//!
//! The load of the first key of a batch leads it: it waits until the call may begin, makes the call
//! and hands out the outcomes. The other loads wait for theirs. [`Collector`] decides which keys
//! share a call and when it begins.
//!
//! # Guarantees
//! - A key shares only a call that begins after its load.
//! - The outcome of the call is that of each of its keys, if it fails or is refused.
//! - A load whose leader is cancelled or panics is made alone.

mod collector;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::collector::{Collector, Joined, Next};
use super::error::Error;
use super::loader::BatchedLoad;
use crate::gather::GatheredKey;

/// What the call says about one key.
pub(super) type Outcome = Result<BatchedLoad, Arc<Error>>;
type Reply = oneshot::Sender<Outcome>;

/// The batches of one origin.
pub(super) struct Batcher {
    collector: Mutex<Collector<Reply>>,
    /// A batch became full, or a call ended.
    changed: Notify,
}

/// A load's part in its batch.
pub(super) enum Part<'b> {
    /// It makes the call, which may begin now.
    Lead(LedBatch<'b>),
    /// Another load made the call.
    Follow(Outcome),
}

/// A batch whose call may begin. On drop, the keys without an outcome are left to be loaded alone.
pub(super) struct LedBatch<'b> {
    batcher: &'b Batcher,
    number: u64,
    followers: Vec<Reply>,
}

impl Batcher {
    /// For at most `max_keys` keys in a call. 0 counts as 1.
    pub(super) fn new(max_keys: usize) -> Self {
        Self { collector: Mutex::new(Collector::new(max_keys)), changed: Notify::new() }
    }

    /// Adds `key` to a batch and waits until its call may begin or, if another load makes the call,
    /// has ended.
    ///
    /// # Cancel safety
    /// Safe. The keys of a batch that loses its leader are loaded alone.
    pub(super) async fn join(&self, key: &[u8], gathered: Option<GatheredKey>) -> Part<'_> {
        let (reply, answered) = oneshot::channel();
        let gathering = gathered.as_ref().map(GatheredKey::gathering);
        let owned = Bytes::copy_from_slice(key);
        let joined = self.collector.lock().join(owned, gathering, reply, Instant::now());
        drop(gathered);
        match joined {
            Joined::Leads(number) => {
                let batch = LedBatch { batcher: self, number, followers: Vec::new() };
                batch.wait_until_ready().await;
                Part::Lead(batch)
            }
            Joined::Follows { is_full } => {
                if is_full {
                    self.changed.notify_waiters();
                }
                // Without an answer the leader was cancelled or has panicked.
                Part::Follow(answered.await.unwrap_or(Ok(BatchedLoad::LoadAlone)))
            }
        }
    }
}

impl LedBatch<'_> {
    async fn wait_until_ready(&self) {
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

    /// The keys of the call, which begins now. The first one is the leader's. No key joins any more.
    pub(super) fn begin(&mut self) -> Vec<Bytes> {
        let batch = self.batcher.collector.lock().begin(self.number, Instant::now());
        let batch = batch.expect("taken once, by its leader");
        self.followers = batch.followers;
        batch.keys
    }

    /// Hands out the outcomes, and returns the leader's. `called` is an error if the call failed, or
    /// was refused before it began.
    pub(super) fn finish(mut self, called: Result<Vec<BatchedLoad>, Arc<Error>>) -> Outcome {
        let refused = self.batcher.collector.lock().end(self.number);
        self.followers.extend(refused.into_iter().flat_map(|batch| batch.followers));
        let mut outcomes = called.map(Vec::into_iter);
        // A missing outcome is a fault of the loader, but no reason to fail the key.
        let mut next = || match &mut outcomes {
            Ok(outcomes) => Ok(outcomes.next().unwrap_or(BatchedLoad::LoadAlone)),
            Err(error) => Err(error.clone()),
        };
        let own = next();
        self.followers.drain(..).for_each(|reply| _ = reply.send(next()));
        own
    }
}

impl Drop for LedBatch<'_> {
    fn drop(&mut self) {
        let abandoned = self.batcher.collector.lock().end(self.number);
        // Outside the lock: the followers wake.
        drop(abandoned);
        self.batcher.changed.notify_waiters();
    }
}
