//! Takes over the entries of the keys that this member gains, after each change of the ring, in the
//! background. Reads that come earlier ask the previous owner by themselves (`cache/take_over.rs`).
//!
//! Every limit that a previous owner could break is kept here: the time without progress, the
//! length of its list, and the memory that its entries may fill. The rules for one response are in
//! the cache. Start at [`Receiver::run`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use larder_proto::v1::{TakeOverCursor, TakeOverResponse};
use larder_runtime::ready::Gate;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cache::{BEHIND_PAUSE, Cache, NotTaken};
use crate::peers::{PreviousRing, Source};

/// How long readiness waits for the first take-over at most.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Time limit of one call. The first one includes the making of the list.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// A member that brings nothing new for this long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// Wait before a member is asked again that has another ring, or did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Members that are asked at the same time.
const MAX_SOURCES: usize = 4;
/// After a batch the receiver pauses as long as the batch took, but no longer than this: a hand-over
/// leaves half of the time to reads.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Takes over entries for one member.
pub(crate) struct Receiver {
    cache: Cache,
    stopping: CancellationToken,
    /// Cancelled once the first take-over is done.
    first_done: CancellationToken,
}

/// How a take-over from one member ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is nothing left.
    Complete,
    /// Its part of the memory is full.
    Full,
    /// It does not answer, lags behind, or does not come to an end.
    GivenUp,
}

/// What the receiver does next with a source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Continue(TakeOverCursor),
    Retry(Duration),
    End(End),
}

/// The progress of a take-over from one member: what a response may do to it. Pure.
struct Progress {
    cursor: Option<TakeOverCursor>,
    /// What may still be stored.
    bytes_left: u64,
    entries: u64,
    /// When the last response that moved the cursor came.
    moved: Instant,
}

impl Receiver {
    /// `gate` opens once the first take-over is done, or after [`READY_LIMIT`] in the ring.
    pub(crate) fn new(cache: Cache, gate: Gate, stopping: CancellationToken) -> Self {
        let first_done = CancellationToken::new();
        let joined = cache.peers().changes();
        let opened = open(gate, joined, first_done.clone(), stopping.clone());
        cache.peers().tasks().spawn("take over readiness", opened);
        Self { cache, stopping, first_done }
    }

    /// Runs until the member stops.
    pub(crate) async fn run(self) {
        let stopping = self.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(self) {
        let mut changes = self.cache.peers().changes();
        // Those that a further change interrupts are asked again with the next ring.
        let mut unfinished: BTreeMap<Arc<str>, Source> = BTreeMap::new();
        loop {
            changes.mark_unchanged();
            let previous = self.cache.peers().previous();
            if let Some(previous) = &previous {
                let gained = previous.sources().iter();
                unfinished.extend(gained.map(|s| (s.peer.name().clone(), s.clone())));
                tokio::select! {
                    () = self.take_over(&mut unfinished) => {}
                    _ = changes.changed() => continue,
                }
                self.first_done.cancel();
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = end_of(previous.as_ref()) => {
                    previous.iter().for_each(|p| self.cache.peers().forget_previous(p));
                    _ = changes.changed().await;
                }
            }
        }
    }

    /// Removes each source once it is done.
    async fn take_over(&self, sources: &mut BTreeMap<Arc<str>, Source>) {
        if sources.is_empty() {
            return;
        }
        let began = Instant::now();
        let all: Vec<_> = sources.values().cloned().collect();
        let ends = stream::iter(all).map(|source| async move {
            let (end, progress) = self.take_over_from(&source).await;
            let (entries, left) = (progress.entries, progress.bytes_left);
            // A member whose part of the memory is full has more. Reads ask it for single keys.
            if end != End::Full {
                source.mark_done();
            }
            tracing::info!(peer = %source.peer.name(), ?end, entries, left, "entries taken over");
            source.peer.name().clone()
        });
        let mut ends = std::pin::pin!(ends.buffer_unordered(MAX_SOURCES));
        while let Some(name) = ends.next().await {
            sources.remove(&name);
        }
        self.cache.record_take_over(began.elapsed());
    }

    async fn take_over_from(&self, source: &Source) -> (End, Progress) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let room = (self.cache.main_capacity_bytes() as f64 * source.share) as u64;
        let mut progress = Progress::new(room);
        loop {
            let began = Instant::now();
            match self.step(source, &mut progress).await {
                Step::Continue(cursor) => {
                    progress.cursor = Some(cursor);
                    sleep(began.elapsed().min(MAX_PAUSE)).await;
                }
                Step::Retry(pause) => sleep(pause).await,
                Step::End(end) => return (end, progress),
            }
            if progress.moved.elapsed() >= STALL_LIMIT {
                return (End::GivenUp, progress);
            }
        }
    }

    async fn step(&self, source: &Source, progress: &mut Progress) -> Step {
        self.cache.peers().wait_until_synced().await;
        let take_over = self.cache.begin_take_over();
        let request = take_over.request(progress.cursor);
        let Some(response) = source.peer.take_over(request, CALL_LIMIT).await else {
            return Step::Retry(RETRY_PAUSE);
        };
        if !take_over.has_ring_of(&response) {
            return Step::Retry(RETRY_PAUSE);
        }
        match take_over.store(&response) {
            Ok(taken) => progress.after(&response, taken.entries, taken.bytes),
            Err(NotTaken::Behind) => Step::Retry(BEHIND_PAUSE),
            Err(NotTaken::TooLarge) => Step::End(End::GivenUp),
        }
    }
}

impl Progress {
    fn new(bytes_left: u64) -> Self {
        Self { cursor: None, bytes_left, entries: 0, moved: Instant::now() }
    }

    fn after(&mut self, response: &TakeOverResponse, entries: u64, bytes: u64) -> Step {
        self.entries += entries;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        let Some(next) = response.next else { return Step::End(End::Complete) };
        if self.bytes_left == 0 {
            return Step::End(End::Full);
        }
        let before = self.cursor.unwrap_or_default();
        if next.list == before.list && next.next <= before.next {
            return Step::End(End::GivenUp);
        }
        // A list without anything to store may be as long as it likes, but not for ever.
        if entries > 0 {
            self.moved = Instant::now();
        }
        Step::Continue(next)
    }
}

async fn open(
    gate: Gate,
    mut joined: watch::Receiver<u64>,
    first_done: CancellationToken,
    stopping: CancellationToken,
) {
    let limit = async {
        _ = joined.wait_for(|changes| *changes > 0).await;
        sleep(READY_LIMIT).await;
    };
    tokio::select! {
        () = stopping.cancelled() => return,
        () = first_done.cancelled() => {}
        () = limit => tracing::warn!("ready before all entries were taken over"),
    }
    gate.open();
}

/// Never ready without a previous ring.
async fn end_of(previous: Option<&Arc<PreviousRing>>) {
    match previous {
        Some(previous) => sleep_until(previous.until()).await,
        None => std::future::pending().await,
    }
}
