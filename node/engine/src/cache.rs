//! The groups of one process, the division of the capacity among them, and housekeeping. Never
//! accesses a shard directly and is not on the path of a hit. Start at [`Cache::add_group`].

use std::sync::Arc;

use crate::budget;
use crate::graveyard::Graveyard;
use crate::group::{Group, Inner};
use crate::options::{GroupOptions, Options};
use crate::stats::{GroupStats, Swept};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::tick::Tick;

/// Entries evicted from groups above their limit each time another group demands its share.
const RELIEF: usize = 64;

/// A bounded cache of several groups. Clones refer to the same cache.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Core>);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) graveyard: Arc<Graveyard>,
    capacity_bytes: AtomicU64,
    groups: RwLock<Vec<Arc<Inner>>>,
    /// Serializes divisions. Acquired before any shard's lock, never while one is held.
    dividing: Mutex<()>,
    /// Index of the group at which the next sweep starts, so that a small budget reaches every
    /// group.
    next_swept: AtomicUsize,
}

/// The cache already has a group of this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group {name:?} already exists")]
#[expect(missing_docs, reason = "the message says what the docs would")]
pub struct GroupExists {
    pub name: String,
}

impl Cache {
    /// Creates a cache without groups.
    #[must_use]
    pub fn new(options: Options) -> Cache {
        Cache(Arc::new(Core {
            capacity_bytes: AtomicU64::new(options.capacity_bytes),
            graveyard: Arc::default(),
            groups: RwLock::default(),
            dividing: Mutex::new(()),
            next_swept: AtomicUsize::new(0),
            options,
        }))
    }

    /// Adds an empty group. Reads and writes use the returned handle; keep it.
    ///
    /// # Errors
    /// A group of this name already exists.
    pub fn add_group(&self, name: &str, options: GroupOptions) -> Result<Group, GroupExists> {
        let mut groups = self.0.groups.write();
        if groups.iter().any(|group| group.name() == name) {
            return Err(GroupExists { name: name.to_owned() });
        }
        let group = Arc::new(Inner::new(name, options, &self.0));
        groups.push(Arc::clone(&group));
        drop(groups);
        self.0.divide();
        Ok(Group(group))
    }

    /// The group of this name. A lookup is too slow for every read: keep the handle.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group> {
        let groups = self.0.groups.read();
        groups.iter().find(|group| group.name() == name).cloned().map(Group)
    }

    /// All groups, in the order in which they were added.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.0.groups.read().iter().cloned().map(Group).collect()
    }

    /// Removes a group and its entries. Remaining handles find nothing and store nothing.
    /// Returns false if there is no group of this name.
    pub fn remove_group(&self, name: &str) -> bool {
        let mut groups = self.0.groups.write();
        let Some(index) = groups.iter().position(|group| group.name() == name) else {
            return false;
        };
        let group = groups.remove(index);
        drop(groups);
        group.clear(true);
        self.0.divide();
        true
    }

    /// Maximum number of bytes that all groups hold together.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.0.capacity_bytes.load(Ordering::Relaxed)
    }

    /// Sets the capacity. After a reduction, the excess is evicted in small steps: each insert
    /// evicts twice the bytes that it adds, and each sweep evicts more.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.capacity_bytes.store(bytes, Ordering::Relaxed);
        self.0.divide();
    }

    /// Bytes currently charged to all groups.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.groups.read().iter().map(|group| group.bytes()).sum()
    }

    /// Housekeeping: removes expired entries, evicts from groups above their limit, frees the
    /// memory of cleared groups and divides the capacity again. The cost is proportional to the
    /// removed entries, about `budget` of them at most. Call it a few times a second, and again at
    /// once while [`Swept::more`] is true.
    pub fn sweep(&self, now: Tick, budget: usize) -> Swept {
        let groups: Vec<Arc<Inner>> = self.0.groups.read().clone();
        let mut swept = Swept { buried: self.0.graveyard.bury(budget), ..Swept::default() };
        let first = self.0.next_swept.fetch_add(1, Ordering::Relaxed);
        for offset in 0..groups.len() {
            let group = &groups[first.wrapping_add(offset) % groups.len()];
            let left = budget.saturating_sub(swept.expired + swept.evicted + swept.buried);
            swept += group.sweep(now, left);
        }
        self.0.divide();
        groups.iter().for_each(|group| group.forget_pressure());
        swept.more |= self.0.graveyard.waiting() > 0;
        swept
    }

    /// Checks all invariants of all groups, for tests and fuzzing.
    ///
    /// # Panics
    /// If an invariant is violated, which is a bug in the engine.
    pub fn validate(&self) {
        self.groups().iter().for_each(Group::validate);
        self.0.graveyard.validate();
    }

    /// Counters and gauges of every group, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, GroupStats)> {
        self.groups().iter().map(|group| (group.name().to_owned(), group.stats())).collect()
    }
}

impl Core {
    /// Divides the capacity among the groups; see `budget.rs`.
    pub(crate) fn divide(&self) {
        let _one_at_a_time = self.dividing.lock();
        self.divide_locked();
    }

    /// Called when a group evicted although it may be entitled to more. Evicts a little from groups
    /// above their limit and divides the capacity again, unless another thread is doing so.
    pub(crate) fn relieve(&self) {
        // Hold no lock here: the eviction calls listeners, which may call any method of the cache.
        let groups: Vec<Arc<Inner>> = self.groups.read().clone();
        let mut left = RELIEF;
        for group in &groups {
            left -= group.shrink(left).min(left);
        }
        if let Some(_one_at_a_time) = self.dividing.try_lock() {
            self.divide_locked();
        }
    }

    fn divide_locked(&self) {
        let groups = self.groups.read();
        let capacity = self.capacity_bytes.load(Ordering::Relaxed);
        let demands: Vec<_> = groups.iter().map(|group| group.demand(capacity)).collect();
        let targets = budget::targets(capacity, &demands);
        let hold = |(group, &target): (&Arc<Inner>, &u64)| group.hold(target);
        let held: Vec<_> = groups.iter().zip(&targets).map(hold).collect();
        let limits = budget::raised(capacity, &held);
        groups.iter().zip(held).zip(limits).for_each(|((group, held), limit)| {
            group.raise(held, limit);
        });
    }
}
