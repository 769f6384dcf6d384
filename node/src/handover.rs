//! Takes over the entries of the keys that this member gains, after each change of the ring, in the
//! background. Reads that come earlier ask the previous owner by themselves (`cache/take_over.rs`).
//!
//! `pull` takes the entries of one member, and keeps every limit that it could break. `replicas`
//! does the same for the keys of which this member is the stand-in. The rules for one response are
//! in the cache. Start at [`Receiver::run`].

mod pull;
mod replicas;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use larder_runtime::ready::Gate;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::pull::{End, Pull};
use crate::cache::{Cache, Role};
use crate::peers::{PreviousRing, Source};

pub(crate) use self::replicas::replicate;

/// How long readiness waits for the first take-over at most.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Members that are asked at the same time.
const MAX_SOURCES: usize = 4;

/// Takes over entries for one member.
pub(crate) struct Receiver {
    cache: Cache,
    stopping: CancellationToken,
    /// Cancelled once the first take-over is done.
    first_done: CancellationToken,
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
                _ = changes.changed() => continue,
                () = end_of(previous.as_ref()) => {}
            }
            previous.iter().for_each(|p| self.cache.peers().forget_previous(p));
            // It keeps the members that left reachable.
            drop(previous);
            _ = changes.changed().await;
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
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
            let room = (self.cache.main_capacity_bytes() as f64 * source.share) as u64;
            let mut pull = Pull::new(&self.cache, &source.peer, Role::Owner, room);
            let end = pull.run().await;
            let (entries, left) = (pull.entries(), pull.bytes_left());
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
