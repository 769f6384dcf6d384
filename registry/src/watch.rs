//! The watchers of one stream: their positions in the log and their next events.
//!
//! A watcher pulls: it stores the next revision it needs and reads the store's log from there. A
//! slow stream therefore needs no memory beyond the log, and a watcher that falls behind a
//! compaction is cancelled, as in etcd. Pure: sends nothing and never waits.

use std::collections::BTreeMap;

use etcd_client::proto::{PbEvent, PbResponseHeader, PbWatchResponse};
use etcd_client::{EventType, WatchFilterType};

use crate::store::{Change, Commit, KeyRange, Store};

/// Id in responses that belong to no single watcher (source: etcd `clientv3.InvalidWatchID`).
const NO_WATCHER: i64 = -1;
/// Maximum number of events in one response, unless a single revision has more.
const EVENTS_PER_RESPONSE: usize = 1000;

/// Parameters of a new watcher.
#[derive(Debug, Clone, Default)]
pub(crate) struct WatchRequest {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
    /// First revision to report; 0 means the next one.
    pub(crate) start_revision: i64,
    pub(crate) progress_notify: bool,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    /// Id chosen by the client; 0 lets the registry choose one.
    pub(crate) watch_id: i64,
}

/// The watchers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_id: BTreeMap<i64, Watcher>,
    next_id: i64,
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    /// First revision that was not reported yet.
    next: i64,
    include_puts: bool,
    include_deletes: bool,
    prev_kv: bool,
    progress_notify: bool,
    /// True if events were reported since the last periodic progress.
    busy: bool,
}

impl Watchers {
    pub(crate) fn create(&mut self, request: WatchRequest, store: &Store) -> PbWatchResponse {
        let taken = request.watch_id != 0 && self.by_id.contains_key(&request.watch_id);
        if taken {
            return PbWatchResponse {
                header: header(store.revision()),
                watch_id: NO_WATCHER,
                created: true,
                canceled: true,
                cancel_reason: "mvcc: duplicate watch ID provided on the WatchStream".into(),
                ..Default::default()
            };
        }
        let watch_id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        let key = if request.key.is_empty() { vec![0] } else { request.key };
        let filtered = |filter: WatchFilterType| request.filters.contains(&(filter as i32));
        let watcher = Watcher {
            range: KeyRange::new(&key, &request.range_end),
            next: if request.start_revision == 0 {
                store.revision() + 1
            } else {
                request.start_revision
            },
            include_puts: !filtered(WatchFilterType::NoPut),
            include_deletes: !filtered(WatchFilterType::NoDelete),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            busy: false,
        };
        self.by_id.insert(watch_id, watcher);
        let header = header(store.revision());
        PbWatchResponse { header, watch_id, created: true, ..Default::default() }
    }

    /// Returns `None` for an unknown watcher: etcd sends no response either.
    pub(crate) fn cancel(&mut self, watch_id: i64, store: &Store) -> Option<PbWatchResponse> {
        self.by_id.remove(&watch_id)?;
        let header = header(store.revision());
        Some(PbWatchResponse { header, watch_id, canceled: true, ..Default::default() })
    }

    /// The progress response on request, after every event up to its revision.
    pub(crate) fn progress(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = self.catch_up(store);
        let header = header(store.revision());
        responses.push(PbWatchResponse { header, watch_id: NO_WATCHER, ..Default::default() });
        responses
    }

    /// Periodic progress responses, for idle watchers that requested them, after every event up to
    /// their revision.
    pub(crate) fn periodic_progress(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = self.catch_up(store);
        for (id, watcher) in &mut self.by_id {
            let was_busy = std::mem::take(&mut watcher.busy);
            if watcher.progress_notify && !was_busy {
                let header = header(store.revision());
                responses.push(PbWatchResponse { header, watch_id: *id, ..Default::default() });
            }
        }
        responses
    }

    /// At most one response per watcher; none if all are up to date.
    pub(crate) fn advance(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = Vec::new();
        self.by_id.retain(|id, watcher| {
            if watcher.next < store.compacted() {
                responses.push(PbWatchResponse {
                    header: header(0),
                    watch_id: *id,
                    canceled: true,
                    compact_revision: store.compacted(),
                    ..Default::default()
                });
                return false;
            }
            let events = watcher.read(store);
            if !events.is_empty() {
                let header = header(store.revision());
                let watch_id = *id;
                responses.push(PbWatchResponse { header, watch_id, events, ..Default::default() });
            }
            true
        });
        responses
    }

    /// Everything that was committed since the last wake-up. A progress response promises that the
    /// events up to its revision were delivered, so clients discard any that come later.
    fn catch_up(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = Vec::new();
        loop {
            let events = self.advance(store);
            if events.is_empty() {
                return responses;
            }
            responses.extend(events);
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.by_id.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl Watcher {
    /// Reads the next events from the log, in whole revisions.
    fn read(&mut self, store: &Store) -> Vec<PbEvent> {
        let mut events = Vec::new();
        for commit in store.commits_from(self.next) {
            if events.len() >= EVENTS_PER_RESPONSE {
                break;
            }
            events.extend(self.events_of(commit, store.compacted()));
            self.next = commit.revision + 1;
        }
        self.busy |= !events.is_empty();
        events
    }

    fn events_of(&self, commit: &Commit, compacted: i64) -> Vec<PbEvent> {
        // The state before a compacted revision is not available to clients.
        let prev_kv = self.prev_kv && commit.revision > compacted;
        let matches = |change: &&Change| {
            self.range.contains(&change.now.key)
                && if change.deleted { self.include_deletes } else { self.include_puts }
        };
        let event = |change: &Change| PbEvent {
            r#type: if change.deleted { EventType::Delete } else { EventType::Put } as i32,
            kv: Some(change.now.clone()),
            prev_kv: change.before.clone().filter(|_| prev_kv),
        };
        commit.changes.iter().filter(matches).map(event).collect()
    }
}

/// A header that contains only the revision; the gRPC layer adds the rest.
#[expect(clippy::unnecessary_wraps, reason = "the field that it fills is optional")]
fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader { revision, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &str) -> i64 {
        let mut write = store.write();
        write.put(key.into(), b"v".to_vec(), 0);
        write.commit()
    }

    /// Watcher id and revision of each event.
    fn events(responses: &[PbWatchResponse]) -> Vec<(i64, i64)> {
        let pairs = |r: &PbWatchResponse| {
            let revision = |e: &PbEvent| e.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            r.events.iter().map(|e| (r.watch_id, revision(e))).collect::<Vec<_>>()
        };
        responses.iter().flat_map(pairs).collect()
    }

    #[test]
    fn each_watcher_reports_every_revision_once_from_its_start() {
        let mut store = Store::new(100);
        put(&mut store, "a"); // 2
        put(&mut store, "b"); // 3
        let mut watchers = Watchers::default();
        let from = |key: &str, start_revision| WatchRequest {
            key: key.into(),
            start_revision,
            ..Default::default()
        };
        assert_eq!(watchers.create(from("a", 2), &store).watch_id, 0);
        assert_eq!(watchers.create(from("a", 0), &store).watch_id, 1);
        assert_eq!(watchers.create(from("b", 5), &store).watch_id, 2);
        assert_eq!(events(&watchers.advance(&store)), [(0, 2)]);
        put(&mut store, "b"); // 4, before the third watcher's start
        put(&mut store, "a"); // 5
        put(&mut store, "b"); // 6
        assert_eq!(events(&watchers.advance(&store)), [(0, 5), (1, 5), (2, 6)]);
        assert_eq!(watchers.advance(&store), []);
    }

    #[test]
    fn periodic_progress_never_precedes_an_event_of_its_revision() {
        let mut store = Store::new(100);
        let mut watchers = Watchers::default();
        let request =
            WatchRequest { key: "a".into(), progress_notify: true, ..WatchRequest::default() };
        watchers.create(request, &store);
        put(&mut store, "a"); // Committed, and not reported yet when the progress is due.
        let responses = watchers.periodic_progress(&store);
        let claimed = |r: &PbWatchResponse| r.header.as_ref().is_some_and(|h| h.revision == 2);
        assert_eq!(events(&responses), [(0, 2)]);
        assert!(responses.iter().all(|r| !r.events.is_empty() || !claimed(r)), "{responses:?}");
    }

    #[test]
    fn a_watcher_behind_a_compaction_is_cancelled_with_the_compacted_revision() {
        let mut store = Store::new(100);
        for _ in 0..5 {
            put(&mut store, "a");
        }
        store.compact(4).expect("in the past");
        let mut watchers = Watchers::default();
        let from =
            |start_revision| WatchRequest { key: "a".into(), start_revision, ..Default::default() };
        watchers.create(from(3), &store);
        watchers.create(from(4), &store);
        let responses = watchers.advance(&store);
        assert!(responses[0].canceled);
        assert_eq!(responses[0].compact_revision, 4);
        assert_eq!(events(&responses), [(1, 4), (1, 5), (1, 6)]);
    }

    #[test]
    fn a_long_log_is_reported_in_several_responses() {
        let mut store = Store::new(10_000);
        for _ in 0..2_500 {
            put(&mut store, "a");
        }
        let mut watchers = Watchers::default();
        let request = WatchRequest { key: "a".into(), start_revision: 1, ..Default::default() };
        watchers.create(request, &store);
        let sizes: Vec<usize> = (0..4).map(|_| events(&watchers.advance(&store)).len()).collect();
        assert_eq!(sizes, [1000, 1000, 500, 0]);
    }
}
