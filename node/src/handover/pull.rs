//! Takes the entries of one member, batch by batch, within limits: the time without progress, the
//! length of its list, and the memory that its entries may fill.

use std::time::Duration;

use larder_proto::v1::{TakeOverCursor, TakeOverRequest, TakeOverResponse};
use tokio::time::{Instant, sleep};

use crate::cache::{BEHIND_PAUSE, Cache, NotTaken, Role};
use crate::peers::Peer;

/// Time limit of one call. The first one includes the making of the list.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// A member that brings nothing new for this long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// A member that is bypassed and has not answered for this long is given up.
const DOWN_LIMIT: Duration = Duration::from_secs(3);
/// Wait before a member is asked again that has another ring, or did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// After a batch comes a pause as long as the batch took, but no longer than this: half of the time
/// is left to reads.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is nothing left.
    Complete,
    /// Its part of the memory is full.
    Full,
    /// The member does not answer, lags behind, or does not come to an end.
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Continue(TakeOverCursor),
    Retry(Duration),
    End(End),
}

pub(super) struct Pull<'p> {
    cache: &'p Cache,
    peer: &'p Peer,
    role: Role,
    after_version: u64,
    progress: Progress,
}

/// What a response may do to a pull. Pure.
struct Progress {
    cursor: Option<TakeOverCursor>,
    /// What may still be stored.
    bytes_left: u64,
    entries: u64,
    /// The version of the first response.
    version: Option<u64>,
    /// When the last response came.
    answered: Instant,
    /// When the last response that brought an entry came.
    moved: Instant,
}

impl<'p> Pull<'p> {
    pub(super) fn new(cache: &'p Cache, peer: &'p Peer, role: Role, bytes: u64) -> Self {
        Self { cache, peer, role, after_version: 0, progress: Progress::new(bytes) }
    }

    /// Only entries of a larger version.
    pub(super) fn after_version(self, version: u64) -> Self {
        Self { after_version: version, ..self }
    }

    pub(super) async fn run(&mut self) -> End {
        loop {
            let began = Instant::now();
            match self.step().await {
                Step::Continue(cursor) => {
                    self.progress.cursor = Some(cursor);
                    sleep(began.elapsed().min(MAX_PAUSE)).await;
                }
                Step::Retry(pause) => sleep(pause).await,
                Step::End(end) => return end,
            }
            let is_gone = !self.peer.is_up() && self.progress.answered.elapsed() >= DOWN_LIMIT;
            if is_gone || self.progress.moved.elapsed() >= STALL_LIMIT {
                return End::GivenUp;
            }
        }
    }

    /// Entries stored.
    pub(super) fn entries(&self) -> u64 {
        self.progress.entries
    }

    pub(super) fn bytes_left(&self) -> u64 {
        self.progress.bytes_left
    }

    /// What the member loads after it made the list has a larger version.
    pub(super) fn version(&self) -> u64 {
        self.progress.version.unwrap_or(0)
    }

    async fn step(&mut self) -> Step {
        self.cache.peers().wait_until_synced().await;
        let take_over = self.cache.begin_take_over(self.role);
        let request = TakeOverRequest {
            after_version: self.after_version,
            ..take_over.request(self.progress.cursor)
        };
        let Some(response) = self.peer.take_over(request, CALL_LIMIT).await else {
            return Step::Retry(RETRY_PAUSE);
        };
        self.progress.answered = Instant::now();
        if !take_over.has_ring_of(&response) {
            return Step::Retry(RETRY_PAUSE);
        }
        match take_over.store(&response) {
            Ok(taken) => self.progress.after(&response, taken.entries, taken.bytes),
            Err(NotTaken::Behind) => Step::Retry(BEHIND_PAUSE),
            Err(NotTaken::TooLarge) => Step::End(End::GivenUp),
        }
    }
}

impl Progress {
    fn new(bytes_left: u64) -> Self {
        let now = Instant::now();
        Self { cursor: None, bytes_left, entries: 0, version: None, answered: now, moved: now }
    }

    fn after(&mut self, response: &TakeOverResponse, entries: u64, bytes: u64) -> Step {
        self.version.get_or_insert(response.version);
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
        // A list without anything to store may be long, but not for ever.
        if entries > 0 {
            self.moved = Instant::now();
        }
        Step::Continue(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(list: u64, next: u64) -> TakeOverResponse {
        let next = Some(TakeOverCursor { list, next });
        TakeOverResponse { next, version: 7, ..TakeOverResponse::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_ends_with_the_list_with_its_memory_or_when_the_list_does_not_move() {
        let mut progress = Progress::new(100);
        let Step::Continue(cursor) = progress.after(&response(1, 10), 2, 60) else {
            panic!("more")
        };
        progress.cursor = Some(cursor);
        assert_eq!(progress.after(&response(1, 10), 0, 0), Step::End(End::GivenUp));
        assert_eq!(progress.after(&response(1, 20), 1, 50), Step::End(End::Full));
        let last = TakeOverResponse::default();
        assert_eq!(progress.after(&last, 1, 10), Step::End(End::Complete));
        assert_eq!((progress.entries, progress.version), (4, Some(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_entries_count_as_progress() {
        let mut progress = Progress::new(100);
        tokio::time::advance(STALL_LIMIT).await;
        progress.after(&response(1, 10), 0, 0);
        assert_eq!(progress.moved.elapsed(), STALL_LIMIT);
        progress.after(&response(1, 20), 1, 1);
        assert_eq!(progress.moved.elapsed(), Duration::ZERO);
    }
}
