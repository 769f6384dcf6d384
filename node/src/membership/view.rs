//! The pure core: `apply(view, event, rules, now)` is the next view.

use std::collections::{BTreeMap, BTreeSet};

use larder_proto::contract::GroupContract;
use larder_proto::registry::Registration;

/// `Op` that a member writes into its registration before it revokes its lease, so that peers drop
/// it at once. etcd's naming clients read the same number as "delete".
pub const LEAVING: u8 = 1;

/// Time between two evaluations of the departed while there are any, ms.
pub(super) const EVALUATION_INTERVAL_MS: u64 = 500;
/// A longer pause between two evaluations shows that this member was stalled, ms.
const STALL_MS: u64 = 2 * EVALUATION_INTERVAL_MS;

/// The cluster as one member knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MembershipView {
    /// Revision of the last change; 0 until the registry was read once.
    pub revision: u64,
    /// The ring's members by name, including the departed.
    pub members: BTreeMap<String, Registration>,
    /// Contracts of the groups, by name.
    pub groups: BTreeMap<String, GroupContract>,
    /// Those of `members` whose key vanished without deregistering.
    pub departed: BTreeMap<String, Departed>,
    /// Those of `members` that did not answer a peer's last call.
    pub failing: BTreeSet<String>,
    /// Groups that a rebuilt registry does not have yet. Kept until it has them or deletes them.
    pub unconfirmed_groups: BTreeSet<String>,
    /// True while the shrink guard holds: too many members vanished at once.
    pub distrusted: bool,
    /// For metrics.
    pub counts: Counts,
    /// Id of the etcd cluster that was read. A rebuilt registry has another one.
    cluster: u64,
    /// Every change up to this revision was seen, whether or not it changed the view.
    seen: u64,
    /// When members vanished without deregistering, ms, for the shrink guard.
    vanished: BTreeMap<String, u64>,
    /// When the departed were evaluated last, ms.
    evaluated_at_ms: u64,
    /// Silence before this time is no evidence, ms: the registry was distrusted, so that one member
    /// after the other registers again now, or this member was stalled.
    silence_from_ms: u64,
}

/// A member without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// When its key vanished, ms on this member's clock.
    pub at_ms: u64,
    /// When it last answered a peer since then, ms.
    pub last_answer_ms: Option<u64>,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Listings of the whole prefix.
    pub listings: u64,
    /// Times that the registry turned out to have been rebuilt empty.
    pub rebuilds: u64,
    /// Unreadable values, skipped.
    pub unreadable: u64,
    /// Times that the shrink guard started to hold the ring.
    pub distrusts: u64,
}

/// Time limits for departed members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Name of this member, which never removes itself.
    pub own_name: String,
    /// Members that vanish within this time count together for the shrink guard, ms.
    pub window_ms: u64,
    /// How long a departed member is kept without a sign of life, ms.
    pub silence_ms: u64,
    /// How long a departed member is kept at most while the registry is trusted, and at least
    /// while it is distrusted, ms.
    pub grace_ms: u64,
}

/// What changes a view.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The whole prefix was read.
    Listed {
        /// Id of the etcd cluster that answered.
        cluster: u64,
        /// The revision at which it was read.
        revision: u64,
        /// Every member and group in it.
        entries: Vec<Entry>,
    },
    /// Keys changed, in order of revision.
    Changed(Vec<(u64, Entry)>),
    /// No other change up to this revision.
    Progressed(u64),
    /// A member answered a peer.
    PeerAnswered(String),
    /// A member did not answer a peer.
    PeerFailed(String),
    /// Time passed.
    Ticked,
}

/// One key of the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A member's registration.
    Member(String, Read<Registration>),
    /// A group's contract.
    Group(String, Read<GroupContract>),
}

/// The content of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Read<T> {
    /// A readable value.
    Value(Box<T>),
    /// A value of unknown form. What was known before is kept.
    Unreadable,
    /// The key does not exist.
    Gone,
}

/// The next view. Reads no clock: `now_ms` is the time on this member's clock.
#[must_use]
pub fn apply(view: &MembershipView, event: Event, rules: &Rules, now_ms: u64) -> MembershipView {
    let mut next = view.clone();
    if !view.departed.is_empty() && now_ms > view.evaluated_at_ms + STALL_MS {
        next.silence_from_ms = now_ms;
    }
    next.evaluated_at_ms = now_ms;
    match event {
        Event::Listed { cluster, revision, entries } => {
            next.listed(cluster, revision, entries, now_ms);
        }
        Event::Changed(changes) => {
            // All changes of one revision arrive in one message, so an equal revision was seen.
            let news = changes.into_iter().filter(|(revision, _)| *revision > view.seen);
            for (revision, entry) in news {
                (next.revision, next.seen) = (revision, next.seen.max(revision));
                next.put(entry, now_ms);
            }
        }
        Event::Progressed(revision) => next.seen = next.seen.max(revision),
        Event::PeerAnswered(name) => {
            next.failing.remove(&name);
            if let Some(departed) = next.departed.get_mut(&name) {
                departed.last_answer_ms = Some(now_ms);
            }
        }
        Event::PeerFailed(name) => {
            if next.members.contains_key(&name) {
                next.failing.insert(name);
            }
        }
        Event::Ticked => {}
    }
    next.evaluate_departed(rules, now_ms);
    next
}

impl MembershipView {
    /// True once the registry was read.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.revision > 0
    }

    /// Every change up to this revision was seen. A watch resumes after it.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Id of the etcd cluster that was read last.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// True if a subscriber that has `other` must be notified: more than
    /// [`MembershipView::seen`] differs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self.revision != other.revision
            || self.members != other.members
            || self.groups != other.groups
            || self.departed != other.departed
            || self.failing != other.failing
            || self.distrusted != other.distrusted
            || self.counts != other.counts
    }

    fn listed(&mut self, cluster: u64, revision: u64, entries: Vec<Entry>, now_ms: u64) {
        let known = self.is_known();
        let rebuilt = known && (cluster != self.cluster || revision < self.seen);
        self.counts.listings += 1;
        self.counts.rebuilds += u64::from(rebuilt);
        if rebuilt {
            self.unconfirmed_groups = self.groups.keys().cloned().collect();
        }
        (self.cluster, self.revision, self.seen) = (cluster, revision, revision);
        let (mut members, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for entry in entries {
            match &entry {
                Entry::Member(name, _) => members.insert(name.clone()),
                Entry::Group(name, _) => groups.insert(name.clone()),
            };
            self.put(entry, now_ms);
        }
        for name in missing(&self.members, &members) {
            self.put(Entry::Member(name, Read::Gone), now_ms);
        }
        for name in missing(&self.groups, &groups) {
            if !self.unconfirmed_groups.contains(&name) {
                self.put(Entry::Group(name, Read::Gone), now_ms);
            }
        }
    }

    fn put(&mut self, entry: Entry, now_ms: u64) {
        match entry {
            Entry::Member(_, Read::Unreadable) | Entry::Group(_, Read::Unreadable) => {
                self.counts.unreadable += 1;
            }
            Entry::Member(name, Read::Value(registration)) if registration.op == LEAVING => {
                self.remove(&name);
                self.vanished.remove(&name);
            }
            Entry::Member(name, Read::Value(registration)) => {
                self.departed.remove(&name);
                self.vanished.remove(&name);
                let before = self.members.get(&name).map(|known| &known.metadata.uid);
                if before != Some(&registration.metadata.uid) {
                    // Another process: reports about its predecessor do not apply.
                    self.failing.remove(&name);
                }
                self.members.insert(name, *registration);
            }
            Entry::Member(name, Read::Gone) => {
                if self.members.contains_key(&name) && !self.departed.contains_key(&name) {
                    self.vanished.insert(name.clone(), now_ms);
                    self.departed.insert(name, Departed { at_ms: now_ms, last_answer_ms: None });
                }
            }
            Entry::Group(name, Read::Value(contract)) => {
                self.unconfirmed_groups.remove(&name);
                self.groups.insert(name, *contract);
            }
            Entry::Group(name, Read::Gone) => {
                self.unconfirmed_groups.remove(&name);
                self.groups.remove(&name);
            }
        }
    }

    fn remove(&mut self, name: &str) {
        self.members.remove(name);
        self.departed.remove(name);
        self.failing.remove(name);
    }

    /// Updates the shrink guard, then removes the departed whose time is over.
    fn evaluate_departed(&mut self, rules: &Rules, now_ms: u64) {
        let departed = &self.departed;
        self.vanished
            .retain(|name, at_ms| departed.contains_key(name) || now_ms < *at_ms + rules.window_ms);
        let gone = self.vanished.keys().filter(|name| !self.members.contains_key(*name)).count();
        let before = self.members.len() + gone;
        let vanished = self.vanished.len();
        let distrusted = vanished >= 2 && vanished * 4 > before;
        self.counts.distrusts += u64::from(distrusted && !self.distrusted);
        if self.distrusted && !distrusted {
            self.silence_from_ms = now_ms;
        }
        self.distrusted = distrusted;

        let expired = |(name, departed): (&String, &Departed)| {
            let expired = self.is_expired(name, departed, rules, now_ms);
            (expired && *name != rules.own_name).then(|| name.clone())
        };
        let expired: Vec<String> = self.departed.iter().filter_map(expired).collect();
        for name in expired {
            self.remove(&name);
        }
        debug_assert!(self.departed.keys().all(|name| self.members.contains_key(name)));
    }

    fn is_expired(&self, name: &str, departed: &Departed, rules: &Rules, now_ms: u64) -> bool {
        let sign_of_life_ms = departed.last_answer_ms.unwrap_or(departed.at_ms);
        let silence_end = sign_of_life_ms.max(self.silence_from_ms) + rules.silence_ms;
        let grace_end = departed.at_ms + rules.grace_ms;
        match (self.distrusted, self.failing.contains(name)) {
            (true, true) => now_ms >= grace_end,
            (true, false) => now_ms >= grace_end.max(silence_end),
            (false, true) => true,
            (false, false) => {
                // A grace time that ended under distrust leaves time to register again.
                let grace_end = grace_end.max(self.silence_from_ms + rules.silence_ms);
                now_ms >= grace_end.min(silence_end)
            }
        }
    }
}

fn missing<T>(known: &BTreeMap<String, T>, listed: &BTreeSet<String>) -> Vec<String> {
    known.keys().filter(|name| !listed.contains(*name)).cloned().collect()
}

#[cfg(test)]
mod tests;
