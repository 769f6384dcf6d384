//! Batches the keys for one peer: keys collect while a call is in flight and share the next call.
//!
//! A key that its owner must load would delay the hits of its batch. So a batch gives the owner
//! little time: for a key that is not answered by then the owner returns DEADLINE_EXCEEDED and
//! keeps loading. That key is requested again in a call of its own, which joins the owner's flight
//! and may take as long as a load.
//!
//! The keys of one request with several keys travel together. Their request waits for all of them,
//! so a batch with no other keys gives the owner the time of a load at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::{FetchKey, FetchResult, Outcome, Source};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;

use super::link::{Link, NoAnswer};
use crate::gather::{GATHER_TIME, Gathering};

const MAX_KEYS: usize = 256;
/// Batches in flight to one peer. At the limit further keys collect.
const MAX_CALLS: usize = 32;
/// How long keys collect while a call is in flight.
const COLLECT_TIME: Duration = Duration::from_millis(1);
/// Time that a batch gives the owner for keys that it has to load.
const BATCH_LOAD_TIME: Duration = Duration::from_millis(10);
/// Of a caller's remaining time, the part that stays for an answer's way back: first from the owner
/// to this member, then from here to the caller.
pub(crate) const HOP_ALLOWANCE: Duration = Duration::from_millis(10);

/// When an answer has to leave to be there at `deadline`. Of a short time, half.
pub(crate) fn before_hop(deadline: Instant, now: Instant) -> Instant {
    deadline - HOP_ALLOWANCE.min(deadline.saturating_duration_since(now) / 2)
}

/// A peer gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The peer is bypassed: it does not answer, or has not confirmed an invalidation.
    #[error("the peer is bypassed")]
    Down,
    /// The queue of keys for the peer is at its limit.
    #[error("the peer's queue is full")]
    Full,
    /// The call failed, or the peer did not answer a probe in the meantime.
    #[error("the peer did not answer")]
    Failed,
    /// The caller's deadline passed. The peer may be well.
    #[error("the peer did not answer within the deadline")]
    Deadline,
}

/// A key that a caller waits for.
pub(super) struct PendingKey {
    pub(super) group: Arc<str>,
    pub(super) key: Bytes,
    pub(super) deadline: Instant,
    /// Set if the key's request has several keys.
    pub(super) gathering: Option<Gathering>,
    pub(super) reply: oneshot::Sender<Result<FetchResult, Unanswered>>,
}

/// Adds queued keys, and waits for those that belong to the requests of a batch.
async fn gather(batch: &mut Vec<PendingKey>, queue: &mut mpsc::Receiver<PendingKey>) {
    let end = Instant::now() + GATHER_TIME;
    let mut next = 0;
    while let Some(pending) = batch.get(next) {
        if let Some(gathering) = &pending.gathering {
            _ = timeout_at(end, gathering.complete()).await;
        }
        while batch.len() < MAX_KEYS
            && let Ok(pending) = queue.try_recv()
        {
            batch.push(pending);
        }
        next += 1;
    }
}

/// True if one request has all the keys of a batch.
fn is_one_request(batch: &[PendingKey]) -> bool {
    let same = |a: &Option<Gathering>, b: &Option<Gathering>| {
        a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.is_same(b))
    };
    batch.iter().all(|pending| same(&pending.gathering, &batch[0].gathering))
}

/// Sends queued keys until the queue closes or the node stops. Keys wait for the first sync with
/// the peer, so that no key is read from a member that may have missed an invalidation.
pub(super) async fn drive(mut queue: mpsc::Receiver<PendingKey>, link: Arc<Link>) {
    let tasks = &link.context.deps.tasks;
    let stopping = tasks.stopping().clone();
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let mut batch = Vec::new();
        let permit = calls.clone().acquire_owned().await.expect("never closed");
        tokio::select! {
            count = queue.recv_many(&mut batch, MAX_KEYS) => if count == 0 { return },
            () = stopping.cancelled() => return,
        }
        let synced = tokio::select! {
            synced = link.wait_until_synced() => synced,
            () = link.gone.cancelled() => return,
            () = stopping.cancelled() => return,
        };
        if !synced {
            fail(batch);
            continue;
        }
        gather(&mut batch, &mut queue).await;
        let call = tasks.spawn("batch", send(batch, link.clone(), permit));
        // The next batch starts when this call ends or COLLECT_TIME is over.
        _ = timeout(COLLECT_TIME, call).await;
    }
}

async fn send(batch: Vec<PendingKey>, link: Arc<Link>, permit: OwnedSemaphorePermit) {
    let began = Instant::now();
    let asks_once = is_one_request(&batch);
    let load_time = if asks_once { link.context.deps.load_timeout } else { BATCH_LOAD_TIME };
    let keys = batch.iter().map(|pending| pending.request(load_time, asks_once)).collect();
    let last_deadline = batch.iter().map(|pending| pending.deadline).max();
    let answers = link.fetch(keys, last_deadline.unwrap_or(began), true).await;
    link.metrics.seconds.observe(began.elapsed().as_secs_f64());
    drop(permit);
    let Ok(results) = answers else {
        link.metrics.failed.inc();
        return fail(batch);
    };
    link.metrics.ok.inc();
    for (pending, result) in batch.into_iter().zip(results) {
        let loading = is_error(&result, Code::DeadlineExceeded) && !asks_once;
        // Aborted: the owner's response was full.
        if loading || is_error(&result, Code::Aborted) {
            let alone = ask_alone(pending, loading, link.clone());
            link.context.deps.tasks.spawn("fetch alone", alone);
        } else {
            _ = pending.reply.send(Ok(result));
        }
    }
}

fn fail(batch: Vec<PendingKey>) {
    batch.into_iter().for_each(|pending| _ = pending.reply.send(Err(Unanswered::Failed)));
}

/// Requests one key with the time limit of its caller or of a load. `loading` means that the owner
/// was loading the key when the batch asked. Then the answer counts as loaded even if the load has
/// ended by now and the owner reports a hit.
async fn ask_alone(pending: PendingKey, loading: bool, link: Arc<Link>) {
    let keys = vec![pending.request(link.context.deps.load_timeout, true)];
    let reply = match link.fetch(keys, pending.deadline, false).await.map(|mut all| all.pop()) {
        Ok(Some(mut result)) => {
            if loading && result.source() == Source::Local {
                result.set_source(Source::Loaded);
            }
            Ok(result)
        }
        Ok(None) | Err(NoAnswer) => Err(Unanswered::Failed),
    };
    _ = pending.reply.send(reply);
}

fn is_error(result: &FetchResult, code: Code) -> bool {
    result.outcome() == Outcome::Error && Code::from(result.code) == code
}

impl PendingKey {
    /// The key with the time that the owner gets: the caller's, but at most `longest`.
    fn request(&self, longest: Duration, asks_once: bool) -> FetchKey {
        let now = Instant::now();
        let time = before_hop(self.deadline, now).saturating_duration_since(now).min(longest);
        FetchKey {
            group: self.group.to_string(),
            key: self.key.clone(),
            // 0 would be the owner's default.
            timeout_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1),
            asks_once,
        }
    }
}

#[cfg(test)]
mod tests;
