//! The log of one member's own invalidations: pure, without a clock and without I/O.
//!
//! Invalidations are numbered 1, 2, 3, ... A receiver asks for what follows its position
//! ([`InvalidationLog::after`]) and moves to the end of the run that it gets. The log is bounded:
//! the oldest entries are *folded* into one number per group, that of the group's latest folded
//! entry. A receiver that is behind it drops the whole group. Too many folded groups are folded
//! once more, into one number for all groups.
//!
//! # Guarantees
//! A receiver at position `p` has applied, or covered by dropping the whole group, every entry up
//! to `p`. So a run contains either all folded groups that the receiver needs, or none of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// What an invalidation removes. Without keys and tags: the whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// The group; `None` for every group.
    pub group: Option<Arc<str>>,
    /// Keys of the group.
    pub keys: Arc<[Bytes]>,
    /// Tags of the group.
    pub tags: Arc<[Bytes]>,
    /// Removes only copies of other members' entries.
    pub copies_only: bool,
}

/// Bounds of a log and of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogLimits {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) folded_groups: usize,
    pub(super) run_entries: usize,
    pub(super) run_bytes: usize,
}

impl LogLimits {
    /// For a member with this much memory for entries: the log takes a 64th of it, 1 to 8 MiB.
    pub(super) fn of_capacity(capacity_bytes: u64) -> Self {
        let bytes = (capacity_bytes / 64).clamp(1 << 20, 8 << 20);
        Self {
            entries: 16_384,
            bytes: usize::try_from(bytes).expect("at most 8 MiB"),
            folded_groups: 1_024,
            run_entries: 1_024,
            // Together with one more invalidation of the largest size, below a message's limit.
            run_bytes: 1 << 20,
        }
    }
}

#[derive(Debug)]
pub(super) struct InvalidationLog {
    limits: LogLimits,
    /// Consecutive numbers, the last one being `end`.
    entries: VecDeque<Entry>,
    bytes: usize,
    end: u64,
    folded: BTreeMap<Arc<str>, Folded>,
    /// Covers all groups. Older than everything in `folded`.
    folded_all: Option<Folded>,
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    what: Invalidation,
}

/// The latest of the entries that were folded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Folded {
    number: u64,
    at_ms: u64,
}

/// The content of a log without its times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogImage {
    /// Groups of folded entries, `None` for all groups. Ordered by number.
    pub(crate) folded: Vec<(u64, Option<Arc<str>>)>,
    /// Consecutive numbers, the last one being `end`.
    pub(crate) entries: Vec<Invalidation>,
    pub(crate) end: u64,
}

/// A part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) invalidations: Vec<(u64, Invalidation)>,
}

impl Invalidation {
    /// The whole group.
    pub(crate) fn whole(group: Option<Arc<str>>) -> Self {
        Self { group, keys: Arc::default(), tags: Arc::default(), copies_only: false }
    }

    /// Approximate size in memory and on the wire.
    fn bytes(&self) -> usize {
        const EACH: usize = 32;
        let texts = self.keys.iter().chain(&*self.tags).map(|text| text.len() + EACH);
        EACH + self.group.as_ref().map_or(0, |group| group.len()) + texts.sum::<usize>()
    }
}

impl InvalidationLog {
    pub(super) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            bytes: 0,
            end: 0,
            folded: BTreeMap::new(),
            folded_all: None,
        }
    }

    /// Continues a log of an earlier process. Its entries count as older than this process.
    pub(super) fn continued(limits: LogLimits, image: LogImage) -> Self {
        let mut log = Self::new(limits);
        for (number, group) in image.folded {
            let folded = Folded { number, at_ms: 0 };
            match group {
                Some(group) => _ = log.folded.insert(group, folded),
                None => log.folded_all = Some(folded),
            }
        }
        log.end = image.end.saturating_sub(image.entries.len() as u64);
        image.entries.into_iter().for_each(|what| _ = log.append(what, 0));
        log
    }

    pub(super) fn image(&self) -> LogImage {
        let folded = self.folded_after(0).into_iter().map(|(number, what)| (number, what.group));
        let entries = self.entries.iter().map(|entry| entry.what.clone());
        LogImage { folded: folded.collect(), entries: entries.collect(), end: self.end }
    }

    /// Number of the latest invalidation; 0 before the first.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends an invalidation and returns its number. `now_ms` must not decrease.
    pub(super) fn append(&mut self, what: Invalidation, now_ms: u64) -> u64 {
        self.end += 1;
        self.bytes += what.bytes();
        self.entries.push_back(Entry { at_ms: now_ms, what });
        while self.entries.len() > self.limits.entries || self.bytes > self.limits.bytes {
            self.fold_oldest();
        }
        self.end
    }

    /// What a receiver at `position` has to apply next.
    pub(super) fn after(&self, position: u64) -> Run {
        let position = position.min(self.end);
        let mut run = Run { after: position, through: position, invalidations: Vec::new() };
        if position < self.last_folded() {
            run.invalidations = self.folded_after(position);
            run.through = self.last_folded();
        }
        let skip = usize::try_from(run.through - self.last_folded()).expect("fits in the deque");
        let mut bytes = 0;
        for entry in self.entries.iter().skip(skip).take(self.limits.run_entries) {
            run.through += 1;
            run.invalidations.push((run.through, entry.what.clone()));
            bytes += entry.what.bytes();
            if bytes >= self.limits.run_bytes {
                break;
            }
        }
        run
    }

    /// The position of a receiver that has held nothing before `started_ms`.
    pub(super) fn position_at(&self, started_ms: u64) -> u64 {
        let older = self.entries.partition_point(|entry| entry.at_ms < started_ms);
        if older > 0 {
            return self.last_folded() + older as u64;
        }
        let folded = self.folded.values().chain(&self.folded_all);
        let older = folded.filter(|folded| folded.at_ms < started_ms);
        older.map(|folded| folded.number).max().unwrap_or(0)
    }

    /// The groups of the invalidations numbered `from` to `to`, and perhaps others; `None` for all
    /// groups. Without those that remove only copies.
    pub(super) fn groups(&self, from: u64, to: u64) -> BTreeSet<Option<Arc<str>>> {
        let numbers = self.last_folded() + 1..;
        let entries = numbers.zip(&self.entries).filter(|(number, _)| (from..=to).contains(number));
        let kept = entries.map(|(_, entry)| &entry.what).filter(|what| !what.copies_only);
        let folded = self.folded_after(from.saturating_sub(1)).into_iter().map(|(_, what)| what);
        kept.cloned().chain(folded).map(|what| what.group).collect()
    }

    /// Number of the latest folded entry; 0 if there is none.
    fn last_folded(&self) -> u64 {
        self.end - self.entries.len() as u64
    }

    fn fold_oldest(&mut self) {
        let number = self.last_folded() + 1;
        let Some(Entry { at_ms, what }) = self.entries.pop_front() else { return };
        self.bytes -= what.bytes();
        let folded = Folded { number, at_ms };
        match what.group {
            Some(group) => _ = self.folded.insert(group, folded),
            None => self.fold_groups(folded),
        }
        if self.folded.len() > self.limits.folded_groups {
            self.fold_groups(folded);
        }
    }

    /// `latest` is the latest folded entry of all.
    fn fold_groups(&mut self, latest: Folded) {
        self.folded.clear();
        self.folded_all = Some(latest);
    }

    fn folded_after(&self, position: u64) -> Vec<(u64, Invalidation)> {
        let all = self.folded_all.iter().map(|folded| (folded.number, None));
        let groups = self.folded.iter().map(|(name, folded)| (folded.number, Some(name.clone())));
        let mut needed: Vec<_> =
            all.chain(groups).filter(|(number, _)| *number > position).collect();
        needed.sort_unstable_by_key(|(number, _)| *number);
        needed.into_iter().map(|(number, group)| (number, Invalidation::whole(group))).collect()
    }
}

#[cfg(test)]
mod tests;
