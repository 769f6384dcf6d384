//! The watchers of one stream: what each has seen, and what to tell it next.
//!
//! A watcher pulls: it knows the next revision it needs and reads the store's log from there. So
//! a slow stream costs no memory beyond the log, and one that falls behind a compaction is told
//! so, as etcd does. Pure: sends nothing, waits for nothing.

use std::collections::BTreeMap;

use etcd_client::proto::{PbEvent, PbResponseHeader, PbWatchResponse};
use etcd_client::{EventType, WatchFilterType};

use crate::store::{Change, Commit, KeyRange, Store};

/// Id in answers that belong to no single watcher (source: etcd `clientv3.InvalidWatchID`).
const NO_WATCHER: i64 = -1;
/// Events in one answer, unless one revision alone holds more.
const EVENTS_PER_RESPONSE: usize = 1000;

/// What a client asked to be told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
    /// 0 is "from now on".
    pub(crate) start_revision: i64,
    pub(crate) progress_notify: bool,
    pub(crate) filters: Vec<i32>,
    pub(crate) prev_kv: bool,
    /// 0 lets the registry choose.
    pub(crate) watch_id: i64,
}

/// The watchers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    standing: BTreeMap<i64, Watcher>,
    next_id: i64,
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    /// The first revision not told yet.
    next: i64,
    wants_puts: bool,
    wants_deletes: bool,
    prev_kv: bool,
    progress_notify: bool,
    /// True when something was told since the last periodic progress.
    busy: bool,
}

impl Watchers {
    pub(crate) fn create(&mut self, wish: Wish, store: &Store) -> PbWatchResponse {
        let taken = wish.watch_id != 0 && self.standing.contains_key(&wish.watch_id);
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
        let watch_id = if wish.watch_id == 0 { self.free_id() } else { wish.watch_id };
        let key = if wish.key.is_empty() { vec![0] } else { wish.key };
        let filtered = |filter: WatchFilterType| wish.filters.contains(&(filter as i32));
        let watcher = Watcher {
            range: KeyRange::new(&key, &wish.range_end),
            next: if wish.start_revision == 0 { store.revision() + 1 } else { wish.start_revision },
            wants_puts: !filtered(WatchFilterType::NoPut),
            wants_deletes: !filtered(WatchFilterType::NoDelete),
            prev_kv: wish.prev_kv,
            progress_notify: wish.progress_notify,
            busy: false,
        };
        self.standing.insert(watch_id, watcher);
        let header = header(store.revision());
        PbWatchResponse { header, watch_id, created: true, ..Default::default() }
    }

    /// Nothing when there is no such watcher, as etcd says nothing.
    pub(crate) fn cancel(&mut self, watch_id: i64, store: &Store) -> Option<PbWatchResponse> {
        self.standing.remove(&watch_id)?;
        let header = header(store.revision());
        Some(PbWatchResponse { header, watch_id, canceled: true, ..Default::default() })
    }

    /// Progress on request: everything up to the header's revision was told. Call it with no
    /// watcher behind, that is after [`Watchers::advance`] gave nothing.
    pub(crate) fn progress(&self, store: &Store) -> PbWatchResponse {
        let header = header(store.revision());
        PbWatchResponse { header, watch_id: NO_WATCHER, ..Default::default() }
    }

    /// Progress that comes by itself, for idle watchers which asked for it.
    pub(crate) fn periodic_progress(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = Vec::new();
        for (id, watcher) in &mut self.standing {
            let was_busy = std::mem::take(&mut watcher.busy);
            if watcher.progress_notify && !was_busy {
                let header = header(store.revision());
                responses.push(PbWatchResponse { header, watch_id: *id, ..Default::default() });
            }
        }
        responses
    }

    /// At most one answer for each watcher; nothing when all are up to date.
    pub(crate) fn advance(&mut self, store: &Store) -> Vec<PbWatchResponse> {
        let mut responses = Vec::new();
        self.standing.retain(|id, watcher| {
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

    fn free_id(&mut self) -> i64 {
        while self.standing.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl Watcher {
    /// Reads on in the log, whole revisions at a time.
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
        // The state before a compacted revision is gone for the client too.
        let prev_kv = self.prev_kv && commit.revision > compacted;
        let wanted = |change: &&Change| {
            self.range.contains(&change.now.key)
                && if change.deleted { self.wants_deletes } else { self.wants_puts }
        };
        let event = |change: &Change| PbEvent {
            r#type: if change.deleted { EventType::Delete } else { EventType::Put } as i32,
            kv: Some(change.now.clone()),
            prev_kv: change.before.clone().filter(|_| prev_kv),
        };
        commit.changes.iter().filter(wanted).map(event).collect()
    }
}

/// A header with the revision alone; the edge knows the rest.
#[expect(clippy::unnecessary_wraps, reason = "the field it fills is optional")]
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

    fn told(responses: &[PbWatchResponse]) -> Vec<(i64, i64)> {
        let events = |r: &PbWatchResponse| {
            let revision = |e: &PbEvent| e.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            r.events.iter().map(|e| (r.watch_id, revision(e))).collect::<Vec<_>>()
        };
        responses.iter().flat_map(events).collect()
    }

    #[test]
    fn each_watcher_is_told_every_revision_once_from_its_start() {
        let mut store = Store::new(100);
        put(&mut store, "a"); // 2
        put(&mut store, "b"); // 3
        let mut watchers = Watchers::default();
        let from = |key: &str, start_revision| Wish {
            key: key.into(),
            start_revision,
            ..Default::default()
        };
        assert_eq!(watchers.create(from("a", 2), &store).watch_id, 0);
        assert_eq!(watchers.create(from("a", 0), &store).watch_id, 1);
        assert_eq!(watchers.create(from("b", 5), &store).watch_id, 2);
        assert_eq!(told(&watchers.advance(&store)), [(0, 2)]);
        put(&mut store, "b"); // 4, before the third one's start
        put(&mut store, "a"); // 5
        put(&mut store, "b"); // 6
        assert_eq!(told(&watchers.advance(&store)), [(0, 5), (1, 5), (2, 6)]);
        assert_eq!(watchers.advance(&store), []);
    }

    #[test]
    fn a_watcher_behind_a_compaction_is_cancelled_with_its_revision() {
        let mut store = Store::new(100);
        for _ in 0..5 {
            put(&mut store, "a");
        }
        store.compact(4).expect("in the past");
        let mut watchers = Watchers::default();
        let wish = |start_revision| Wish { key: "a".into(), start_revision, ..Default::default() };
        watchers.create(wish(3), &store);
        watchers.create(wish(4), &store);
        let responses = watchers.advance(&store);
        assert!(responses[0].canceled);
        assert_eq!(responses[0].compact_revision, 4);
        assert_eq!(told(&responses), [(1, 4), (1, 5), (1, 6)]);
    }

    #[test]
    fn a_long_log_is_told_in_parts() {
        let mut store = Store::new(10_000);
        for _ in 0..2_500 {
            put(&mut store, "a");
        }
        let mut watchers = Watchers::default();
        let wish = Wish { key: "a".into(), start_revision: 1, ..Default::default() };
        watchers.create(wish, &store);
        let sizes: Vec<usize> = (0..4).map(|_| told(&watchers.advance(&store)).len()).collect();
        assert_eq!(sizes, [1000, 1000, 500, 0]);
    }
}
