//! Owns the groups of one process, the division of the capacity among them, and housekeeping. It
//! never looks into a shard and is on no path of a hit. Start at [`Cache::add_group`].

use std::sync::Arc;

use crate::budget;
use crate::graveyard::Graveyard;
use crate::group::{Group, Inner};
use crate::options::{GroupOptions, Options};
use crate::stats::{GroupStats, Swept};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::tick::Tick;

/// Entries evicted from groups above their due each time another one asks for its own.
const RELIEF: usize = 64;

/// A bounded cache of several groups. A clone is another handle to the same cache.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Core>);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) graveyard: Arc<Graveyard>,
    capacity_bytes: AtomicU64,
    groups: RwLock<Vec<Arc<Inner>>>,
    /// One division at a time; taken before any shard's lock, never under one.
    dividing: Mutex<()>,
    /// Where the next sweep begins, so that a small budget reaches every group.
    next_swept: AtomicUsize,
}

/// A group of that name exists.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("group {name:?} exists")]
pub struct GroupExists {
    /// The name.
    pub name: String,
}

impl Cache {
    /// An empty cache without groups.
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

    /// Adds an empty group. The handle is what reads and writes go through; keep it.
    ///
    /// # Errors
    /// If a group of that name exists.
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

    /// The group of that name. Not for every read: keep the handle.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group> {
        let groups = self.0.groups.read();
        groups.iter().find(|group| group.name() == name).cloned().map(Group)
    }

    /// Every group, in the order they were added.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.0.groups.read().iter().cloned().map(Group).collect()
    }

    /// Removes a group and its entries. Handles that are left read nothing and store nothing.
    /// False if there was none of that name.
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

    /// Bytes that all groups together may hold.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.0.capacity_bytes.load(Ordering::Relaxed)
    }

    /// Sets the capacity. After a cut, what is too much goes in small steps: with every insert
    /// twice what it brings, and with every sweep.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.capacity_bytes.store(bytes, Ordering::Relaxed);
        self.0.divide();
    }

    /// Bytes charged to all groups now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.groups.read().iter().map(|group| group.bytes()).sum()
    }

    /// Housekeeping: removes entries whose life is over, evicts from groups above their limit,
    /// gives back the memory of cleared ones, and divides the capacity anew. Costs what it
    /// removes, at most about `budget` entries; call it a few times a second, and again at once
    /// while [`Swept::more`] says so.
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

    /// Recounts every invariant of every group; for tests and fuzzing.
    ///
    /// # Panics
    /// If one is broken: that is a bug in the engine.
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
    /// Divides the capacity anew; see `budget.rs`.
    pub(crate) fn divide(&self) {
        let _one_at_a_time = self.dividing.lock();
        self.divide_locked();
    }

    /// A group evicted for room that it may be due: whoever holds too much gives up a little, and
    /// the capacity is divided anew, unless another thread is at that.
    pub(crate) fn relieve(&self) {
        // Under no lock of the cache's: a listener hears of what goes, and may ask anything.
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
