//! Keys with revisions: the current state and a log of the commits that led to it.
//!
//! Owns the revision counter, the current keys and a bounded log of commits. A read of a past
//! revision undoes commits starting from the current state, so no state is stored twice. This
//! module does not know leases, time or requests. Start at [`Store::write`].

mod range;

use std::collections::{BTreeMap, VecDeque};

use etcd_client::proto::PbKeyValue as KeyValue;

pub(crate) use self::range::KeyRange;
use crate::error::Error;

/// Keys and values with their history.
#[derive(Debug)]
pub(crate) struct Store {
    /// Revision of the last commit. An empty store is at revision 1, as in etcd.
    revision: i64,
    /// States before this revision cannot be read; 0 if nothing was compacted.
    compacted: i64,
    current: BTreeMap<Vec<u8>, KeyValue>,
    /// Commits in order of revision, from `compacted` on, without gaps.
    log: VecDeque<Commit>,
    /// Maximum length of the log. Older commits are compacted.
    log_limit: usize,
}

/// All changes of one revision.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) revision: i64,
    pub(crate) changes: Vec<Change>,
}

/// One key put or deleted.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) deleted: bool,
    /// The new state. For a deleted key, only the key and the revision are set.
    pub(crate) now: KeyValue,
    pub(crate) before: Option<KeyValue>,
}

/// A write transaction. All its changes share one revision, and none is visible before
/// [`Write::commit`]: it borrows the store exclusively, so nothing can read in between.
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

    /// Current keys of `range`, in order.
    pub(crate) fn now<'s>(
        &'s self,
        range: &'s KeyRange,
    ) -> impl Iterator<Item = &'s KeyValue> + use<'s> {
        range.of(&self.current)
    }

    /// Keys of `range` at `revision`, in order.
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

    /// Refuses a revision that is in the future or compacted.
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

    /// Discards the history before `revision`.
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
    /// Revision that a read inside this transaction reports.
    pub(crate) fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.changes.is_empty())
    }

    /// The store, including the changes made so far.
    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// Puts a key and returns its previous state.
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

    /// Deletes the keys of a range and returns them in order.
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

    /// Makes the changes visible and returns the store's revision, which stays the same if there
    /// are no changes.
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
    fn past_revisions_are_read_by_undoing_commits() {
        let mut store = Store::new(100);
        put(&mut store, "a", "1");
        put(&mut store, "b", "1");
        put(&mut store, "a", "2");
        let mut write = store.write();
        write.delete(&KeyRange::new(b"a", b""));
        write.put("c".into(), "1".into(), 0);
        assert_eq!(write.commit(), 5);

        let every_key = KeyRange::new(b"\0", b"\0");
        let at = |revision| values(&store.at(&every_key, revision).expect("not compacted"));
        assert_eq!(at(1), Vec::<String>::new());
        assert_eq!(at(2), ["a=1"]);
        assert_eq!(at(3), ["a=1", "b=1"]);
        assert_eq!(at(4), ["a=2", "b=1"]);
        assert_eq!(at(5), ["b=1", "c=1"]);
        assert_eq!(store.at(&every_key, 6), Err(Error::FutureRevision));
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
    fn a_commit_without_changes_keeps_the_revision() {
        let mut store = Store::new(100);
        let mut write = store.write();
        assert!(write.delete(&KeyRange::new(b"a", b"z")).is_empty());
        assert_eq!(write.commit(), 1);
    }

    #[test]
    fn a_full_log_discards_its_oldest_commits() {
        let mut store = Store::new(3);
        for n in 0..10 {
            put(&mut store, "a", &n.to_string());
        }
        assert_eq!((store.revision(), store.compacted()), (11, 9));
        assert_eq!(store.commits_from(0).count(), 3);
        let range = KeyRange::new(b"a", b"");
        assert_eq!(values(&store.at(&range, 9).expect("the oldest revision kept")), ["a=7"]);
        assert_eq!(store.at(&range, 8), Err(Error::Compacted));
        assert_eq!(store.compact(9), Err(Error::Compacted));
    }
}
