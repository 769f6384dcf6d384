//! Keys for one peer gather while a call is in flight, and go together in the next.
//!
//! A key that needs a load at its owner must not hold up the hits of its batch. So a batch asks
//! with little patience: what the owner cannot answer at once it answers with DEADLINE_EXCEEDED
//! and goes on loading; such a key is then asked for again in a call of its own, which joins the
//! owner's flight and may take its time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::{FetchKey, FetchRequest, FetchResult, Outcome, Source};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::peer::{ANSWER_LIMIT, Link, Unanswered};

/// Most keys in one batch.
const MAX_KEYS: usize = 256;
/// Batches in flight to one peer; keys gather while there are as many.
const MAX_CALLS: usize = 32;
/// A call that takes longer than this no longer makes keys wait for its end.
const GATHER: Duration = Duration::from_millis(1);
/// What a batch gives its owner for keys that it has to load.
const IMPATIENCE: Duration = Duration::from_millis(10);

type Reply = Result<FetchResult, Unanswered>;

/// One key that somebody waits for.
pub(super) struct Want {
    pub(super) group: Arc<str>,
    pub(super) key: Bytes,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Sends what is wanted until the peer is dropped or the node stops.
pub(super) async fn drive(mut wants: mpsc::Receiver<Want>, link: Arc<Link>) {
    let stopping = link.context.tasks.stopping().clone();
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    loop {
        let mut batch = Vec::new();
        let permit = calls.clone().acquire_owned().await.expect("never closed");
        tokio::select! {
            count = wants.recv_many(&mut batch, MAX_KEYS) => if count == 0 { return },
            () = stopping.cancelled() => return,
        }
        let call = link.context.tasks.spawn("batch", send(batch, link.clone(), permit));
        // Whichever comes first: the end of this call, or the end of our patience with it.
        _ = timeout(GATHER, call).await;
    }
}

async fn send(batch: Vec<Want>, link: Arc<Link>, permit: OwnedSemaphorePermit) {
    let began = Instant::now();
    let keys = batch.iter().map(|want| want.asked(IMPATIENCE)).collect();
    let answers = call(&link, keys, ANSWER_LIMIT).await;
    link.metrics.seconds.observe(began.elapsed().as_secs_f64());
    drop(permit);
    match answers {
        Some(results) if results.len() == batch.len() => {
            link.metrics.ok.inc();
            for (want, result) in batch.into_iter().zip(results) {
                if needs_patience(&result) {
                    let loading = Code::from(result.code) == Code::DeadlineExceeded;
                    link.context.tasks.spawn("patient", ask_alone(want, loading, link.clone()));
                } else {
                    _ = want.reply.send(Ok(result));
                }
            }
        }
        _ => {
            link.metrics.failed.inc();
            link.down();
            batch.into_iter().for_each(|want| _ = want.reply.send(Err(Unanswered::Failed)));
        }
    }
}

/// Asks for one key with all the time that a load may take, or until the peer goes silent. If the
/// owner was `loading` it when it was asked before, the answer is that load's, also when it had
/// ended by the time of this call and the owner takes it for a hit.
async fn ask_alone(want: Want, loading: bool, link: Arc<Link>) {
    let patience = link.context.patience;
    let asked = call(&link, vec![want.asked(patience)], patience + ANSWER_LIMIT);
    let results = tokio::select! {
        results = asked => results,
        () = link.health.went_down() => None,
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
    _ = want.reply.send(reply);
}

/// One call; nothing when the peer did not answer it. A connection that broke is tried once more:
/// a peer that retires old connections is not a silent one.
async fn call(link: &Link, keys: Vec<FetchKey>, limit: Duration) -> Option<Vec<FetchResult>> {
    let request = FetchRequest {
        from: link.context.me.to_string(),
        ring_revision: u64::try_from(link.context.metrics.revision.get()).unwrap_or(0),
        keys,
    };
    let calls = async {
        let mut client = link.client.clone()?;
        for last in [false, true] {
            match client.fetch(request.clone()).await {
                Ok(response) => return Some(response.into_inner().results),
                Err(status) if last || !is_broken(&status) => {
                    tracing::debug!(peer = %link.name, %status, "batch failed");
                    return None;
                }
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
        None
    };
    timeout(limit, calls).await.ok().flatten()
}

/// A status that this side made of a broken connection.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// The owner is still loading, or its response was full.
fn needs_patience(result: &FetchResult) -> bool {
    result.outcome() == Outcome::Error
        && matches!(Code::from(result.code), Code::DeadlineExceeded | Code::Aborted)
}

impl Want {
    fn asked(&self, patience: Duration) -> FetchKey {
        FetchKey {
            group: self.group.to_string(),
            key: self.key.clone(),
            timeout_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
        }
    }
}
