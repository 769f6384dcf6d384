//! Batches the keys for one peer: keys collect while a call is in flight and share the next call.
//!
//! A key that its owner must load would delay the hits of its batch. So a batch gives the owner
//! little time: for a key that is not answered by then the owner returns DEADLINE_EXCEEDED and
//! keeps loading. That key is requested again in a call of its own, which joins the owner's flight
//! and may take as long as a load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::{FetchKey, FetchRequest, FetchResult, Outcome, Source};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::link::{ANSWER_TIMEOUT, Link};
use super::transport::CallError;

const MAX_KEYS: usize = 256;
/// Batches in flight to one peer. At the limit further keys collect.
const MAX_CALLS: usize = 32;
/// How long keys collect while a call is in flight.
const COLLECT_TIME: Duration = Duration::from_millis(1);
/// Time that a batch gives the owner for keys that it has to load.
const BATCH_LOAD_TIME: Duration = Duration::from_millis(10);

/// A peer gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The peer has not answered lately and is bypassed.
    #[error("the peer is bypassed")]
    Down,
    /// The queue of keys for the peer is at its limit.
    #[error("the peer's queue is full")]
    Full,
    /// The call failed or timed out.
    #[error("the peer did not answer")]
    Failed,
}

/// A key that a caller waits for.
pub(super) struct PendingKey {
    pub(super) group: Arc<str>,
    pub(super) key: Bytes,
    pub(super) reply: oneshot::Sender<Result<FetchResult, Unanswered>>,
}

/// Sends queued keys until the queue closes or the node stops.
pub(super) async fn drive(mut queue: mpsc::Receiver<PendingKey>, link: Arc<Link>) {
    let stopping = link.context.tasks.stopping().clone();
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let mut batch = Vec::new();
        let permit = calls.clone().acquire_owned().await.expect("never closed");
        tokio::select! {
            count = queue.recv_many(&mut batch, MAX_KEYS) => if count == 0 { return },
            () = stopping.cancelled() => return,
        }
        let call = link.context.tasks.spawn("batch", send(batch, link.clone(), permit));
        // The next batch starts when this call ends or COLLECT_TIME is over.
        _ = timeout(COLLECT_TIME, call).await;
    }
}

async fn send(batch: Vec<PendingKey>, link: Arc<Link>, permit: OwnedSemaphorePermit) {
    let began = Instant::now();
    let keys = batch.iter().map(|pending| pending.request(BATCH_LOAD_TIME)).collect();
    let answers = call(&link, keys, ANSWER_TIMEOUT).await;
    link.metrics.seconds.observe(began.elapsed().as_secs_f64());
    drop(permit);
    match answers {
        Some(results) if results.len() == batch.len() => {
            link.metrics.ok.inc();
            for (pending, result) in batch.into_iter().zip(results) {
                if must_ask_alone(&result) {
                    let loading = Code::from(result.code) == Code::DeadlineExceeded;
                    let alone = ask_alone(pending, loading, link.clone());
                    link.context.tasks.spawn("fetch alone", alone);
                } else {
                    _ = pending.reply.send(Ok(result));
                }
            }
        }
        _ => {
            link.metrics.failed.inc();
            link.mark_down();
            batch.into_iter().for_each(|pending| _ = pending.reply.send(Err(Unanswered::Failed)));
        }
    }
}

/// Requests one key with the time limit of a load, or until the peer goes down. `loading` means
/// that the owner was loading the key when the batch asked. Then the answer counts as loaded even
/// if the load has ended by now and the owner reports a hit.
async fn ask_alone(pending: PendingKey, loading: bool, link: Arc<Link>) {
    let load_timeout = link.context.load_timeout;
    let keys = vec![pending.request(load_timeout)];
    let results = tokio::select! {
        results = call(&link, keys, load_timeout + ANSWER_TIMEOUT) => results,
        () = link.health.wait_until_down() => None,
    };
    let reply = match results.as_deref() {
        Some([result]) => {
            let mut result = result.clone();
            if loading && result.source() == Source::Local {
                result.set_source(Source::Loaded);
            }
            Ok(result)
        }
        _ => Err(Unanswered::Failed),
    };
    _ = pending.reply.send(reply);
}

/// One call; `None` if the peer did not answer it. A broken connection gets one more try: a peer
/// may retire an old connection without being down.
async fn call(link: &Link, keys: Vec<FetchKey>, limit: Duration) -> Option<Vec<FetchResult>> {
    let request = FetchRequest {
        from: link.context.member.to_string(),
        ring_revision: u64::try_from(link.context.metrics.revision.get()).unwrap_or(0),
        keys,
    };
    let calls = async {
        let connection = link.connection.as_ref()?;
        for last in [false, true] {
            match connection.fetch(request.clone()).await {
                Ok(response) => return Some(response.results),
                Err(error) if last || !matches!(error, CallError::Broken(_)) => {
                    tracing::debug!(peer = %link.name, %error, "batch failed");
                    return None;
                }
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
        None
    };
    timeout(limit, calls).await.ok().flatten()
}

/// The owner is still loading the key, or its response was full.
fn must_ask_alone(result: &FetchResult) -> bool {
    result.outcome() == Outcome::Error
        && matches!(Code::from(result.code), Code::DeadlineExceeded | Code::Aborted)
}

impl PendingKey {
    fn request(&self, load_time: Duration) -> FetchKey {
        FetchKey {
            group: self.group.to_string(),
            key: self.key.clone(),
            timeout_ms: u32::try_from(load_time.as_millis()).unwrap_or(u32::MAX),
        }
    }
}
