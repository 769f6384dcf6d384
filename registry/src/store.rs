//! Keys with revisions: what is now, and the log of how it came to be.
//!
//! Owns the revision counter, the current keys and a bounded log of commits. The past is read by
//! undoing commits from now, so that nothing is stored twice. Knows nothing of leases, time or
//! requests. Start at [`Store::write`].

mod range;

use std::collections::{BTreeMap, VecDeque};

use etcd_client::proto::PbKeyValue as KeyValue;

pub(crate) use self::range::KeyRange;
use crate::error::Error;

/// Keys and values with their history.
#[derive(Debug)]
pub(crate) struct Store {
    /// Revision of the last commit; a fresh store is at 1, as etcd's is.
    revision: i64,
    /// The past before this revision is gone; 0 when nothing was compacted.
    compacted: i64,
    current: BTreeMap<Vec<u8>, KeyValue>,
    /// Commits in order of revision, from `compacted` on, without gaps.
    log: VecDeque<Commit>,
    /// The longest log; older commits are compacted away.
    log_limit: usize,
}

/// Everything that happened at one revision.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) revision: i64,
    pub(crate) changes: Vec<Change>,
}

/// One key put or deleted.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) deleted: bool,
    /// The new state; of a deleted key only its name and the revision.
    pub(crate) now: KeyValue,
    pub(crate) before: Option<KeyValue>,
}

/// A transaction: all its changes share one revision, and none is seen before [`Write::commit`].
/// It borrows the store for itself, so no reader can look in between.
#[derive(Debug)]
pub(crate) struct Write<'s> {
    store: &'s mut Store,
    changes: Vec<Change>,
}

impl Store {
    pub(crate) fn new(log_limit: usize) -> Self {
        let (current, log) = (BTreeMap::new(), VecDeque::new());
        Self { revision: 1, compacted: 0, current, log, log_limit: log_limit.max(1) }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.current.get(key)
    }

    /// Keys of `range` as they stand now, in order.
    pub(crate) fn now<'s>(
        &'s self,
        range: &'s KeyRange,
    ) -> impl Iterator<Item = &'s KeyValue> + use<'s> {
        range.of(&self.current)
    }

    /// Keys of `range` as they stood at `revision`, in order.
    pub(crate) fn at(&self, range: &KeyRange, revision: i64) -> Result<Vec<KeyValue>, Error> {
        self.check_revision(revision)?;
        let mut view: BTreeMap<&[u8], &KeyValue> =
            self.now(range).map(|kv| (kv.key.as_slice(), kv)).collect();
        for commit in self.log.iter().rev().take_while(|commit| commit.revision > revision) {
            for change in commit.changes.iter().rev().filter(|c| range.contains(&c.now.key)) {
                match &change.before {
                    Some(before) => view.insert(&change.now.key, before),
                    None => view.remove(change.now.key.as_slice()),
                };
            }
        }
        Ok(view.into_values().cloned().collect())
    }

    /// Refuses a revision that is not there yet or no more.
    pub(crate) fn check_revision(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision {
            Err(Error::FutureRevision)
        } else if revision < self.compacted {
            Err(Error::Compacted)
        } else {
            Ok(())
        }
    }

    /// Commits from `revision` on, in order.
    pub(crate) fn commits_from(&self, revision: i64) -> impl Iterator<Item = &Commit> {
        let first = self.log.partition_point(|commit| commit.revision < revision);
        self.log.range(first..)
    }

    /// Forgets the past before `revision`.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        self.check_revision(revision)?;
        self.compacted = revision;
        while self.log.front().is_some_and(|commit| commit.revision < revision) {
            self.log.pop_front();
        }
        Ok(())
    }

    pub(crate) fn write(&mut self) -> Write<'_> {
        Write { store: self, changes: Vec::new() }
    }
}

impl Write<'_> {
    /// The revision at which a reader inside this transaction sees the store.
    pub(crate) fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.changes.is_empty())
    }

    /// The store with the changes so far.
    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// Puts a key and gives back what stood there.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) -> Option<KeyValue> {
        let revision = self.store.revision + 1;
        let before = self.store.current.remove(&key);
        let now = KeyValue {
            key: key.clone(),
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            value,
            lease,
        };
        self.store.current.insert(key, now.clone());
        self.changes.push(Change { deleted: false, now, before: before.clone() });
        before
    }

    /// Deletes the keys of a range and gives them back, in order.
    pub(crate) fn delete(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let revision = self.store.revision + 1;
        let gone: Vec<KeyValue> = self.store.now(range).cloned().collect();
        for before in &gone {
            self.store.current.remove(&before.key);
            let key = before.key.clone();
            let now = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
            self.changes.push(Change { deleted: true, now, before: Some(before.clone()) });
        }
        gone
    }

    /// Makes the changes visible; without any the revision stays.
    pub(crate) fn commit(self) -> i64 {
        let store = self.store;
        if !self.changes.is_empty() {
            store.revision += 1;
            store.log.push_back(Commit { revision: store.revision, changes: self.changes });
            if store.log.len() > store.log_limit {
                let oldest_kept = store.log[store.log.len() - store.log_limit].revision;
                store.compact(oldest_kept).expect("between the last compaction and now");
            }
        }
        store.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &str, value: &str) -> i64 {
        let mut write = store.write();
        write.put(key.into(), value.into(), 0);
        write.commit()
    }

    fn values(kvs: &[KeyValue]) -> Vec<String> {
        kvs.iter()
            .map(|kv| format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii()))
            .collect()
    }

    #[test]
    fn the_past_is_read_by_undoing() {
        let mut store = Store::new(100);
        put(&mut store, "a", "1");
        put(&mut store, "b", "1");
        put(&mut store, "a", "2");
        let mut write = store.write();
        write.delete(&KeyRange::new(b"a", b""));
        write.put("c".into(), "1".into(), 0);
        assert_eq!(write.commit(), 5);

        let all = KeyRange::new(b"\0", b"\0");
        let at = |revision| values(&store.at(&all, revision).expect("kept"));
        assert_eq!(at(1), Vec::<String>::new());
        assert_eq!(at(2), ["a=1"]);
        assert_eq!(at(3), ["a=1", "b=1"]);
        assert_eq!(at(4), ["a=2", "b=1"]);
        assert_eq!(at(5), ["b=1", "c=1"]);
        assert_eq!(store.at(&all, 6), Err(Error::FutureRevision));
    }

    #[test]
    fn versions_restart_after_a_delete() {
        let mut store = Store::new(100);
        put(&mut store, "a", "1");
        put(&mut store, "a", "2");
        let kv = store.get(b"a").expect("put").clone();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
        let mut write = store.write();
        write.delete(&KeyRange::new(b"a", b""));
        write.commit();
        put(&mut store, "a", "3");
        let kv = store.get(b"a").expect("put").clone();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    }

    #[test]
    fn nothing_changed_is_no_revision() {
        let mut store = Store::new(100);
        let mut write = store.write();
        assert!(write.delete(&KeyRange::new(b"a", b"z")).is_empty());
        assert_eq!(write.commit(), 1);
    }

    #[test]
    fn a_full_log_forgets_its_oldest_commits() {
        let mut store = Store::new(3);
        for n in 0..10 {
            put(&mut store, "a", &n.to_string());
        }
        assert_eq!((store.revision(), store.compacted()), (11, 9));
        assert_eq!(store.commits_from(0).count(), 3);
        let all = KeyRange::new(b"a", b"");
        assert_eq!(values(&store.at(&all, 9).expect("the oldest kept")), ["a=7"]);
        assert_eq!(store.at(&all, 8), Err(Error::Compacted));
        assert_eq!(store.compact(9), Err(Error::Compacted));
    }
}
