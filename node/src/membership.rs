//! Who is in the cluster and which groups it has, as this member believes: a [`View`].
//!
//! `View = apply(View, Event)` is pure and ordered by the registry's revision; everything that
//! waits is below: `registration` keeps our own key, `watch` follows everybody's, `registry` says
//! what they need of etcd and `etcd` is the only place that imports its client. [`start`] joins
//! them. Membership publishes Views and calls nobody.
//!
//! A lease is a hint; the data plane decides. A member whose key vanished without a farewell
//! stays in the View's members as *departed*: for [`Rules::unheard_ms`] when nothing is known of
//! it, up to [`Rules::grace_ms`] while peers report that it answers, no longer once they report
//! that it does not. When more than a quarter vanish in one window the registry itself is
//! distrusted and nobody is removed. A quiet or unreachable registry changes nothing at all.

mod etcd;
mod registration;
mod registry;
mod service;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use larder_proto::contract::GroupContract;
use larder_proto::registry::Registration;

pub use self::etcd::Etcd;
pub use self::registry::{Error, Feed, Held, KeyChange, Listing, Registry, Session, Told};
pub use self::service::{Membership, MembershipOptions, Reporter, start, start_with};

/// `Op` of a registration by which a member says farewell before it revokes its lease, so that
/// nobody waits for it. etcd's naming clients know the same number as "delete".
pub const LEAVING: u8 = 1;

/// What a member believes about its cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Revision of the last change in it; 0 until the registry was read once.
    pub revision: u64,
    /// Members that own keys, by name: the ring is made of these. Holds the departed.
    pub members: BTreeMap<String, Registration>,
    /// Contracts of the groups, by name.
    pub groups: BTreeMap<String, GroupContract>,
    /// Those of `members` whose key vanished without a farewell.
    pub departed: BTreeMap<String, Departed>,
    /// Those of `members` that did not answer when a peer last asked them.
    pub failing: BTreeSet<String>,
    /// Groups that a rebuilt registry does not show yet; kept until it does or says otherwise.
    pub unconfirmed_groups: BTreeSet<String>,
    /// True while so many vanished at once that the registry is not believed.
    pub distrusted: bool,
    /// What happened so far, for metrics.
    pub counts: Counts,
    /// Which cluster of registries was read; another one was made from nothing.
    cluster: u64,
    /// Everything up to this revision was seen, also where it changed nothing.
    seen: u64,
    /// When members vanished without a farewell, for the shrink guard.
    vanished: BTreeMap<String, u64>,
}

/// A member without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// When its key vanished, milliseconds of the member's clock.
    pub at_ms: u64,
    /// When it last answered a peer since then.
    pub heard_ms: Option<u64>,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that the whole prefix was read.
    pub listings: u64,
    /// Times that the registry had been made anew from nothing.
    pub rebuilds: u64,
    /// Values that could not be read and were skipped.
    pub unreadable: u64,
    /// Times that the shrink guard began to hold the ring.
    pub distrusts: u64,
}

/// The times by which a View judges. Milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// This member's own name: it never removes itself.
    pub own: String,
    /// Members that vanish within this time count together for the shrink guard.
    pub window_ms: u64,
    /// How long a departed member stays of which nothing is heard.
    pub unheard_ms: u64,
    /// How long a departed member stays at most while the registry is trusted, and at least while
    /// it is not.
    pub grace_ms: u64,
}

/// What can happen to a View.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The whole prefix was read.
    Listed {
        /// Which cluster of registries answered.
        cluster: u64,
        /// The revision at which it was read.
        revision: u64,
        /// Everything that stands there.
        entries: Vec<Entry>,
    },
    /// Keys changed, in order of revision.
    Changed(Vec<(u64, Entry)>),
    /// Nothing else happened up to this revision.
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

/// What stands under a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Read<T> {
    /// A value.
    Value(Box<T>),
    /// Something of an unknown form: what was known before stays.
    Unreadable,
    /// Nothing.
    Gone,
}

/// The next View. Reads no clock: `now_ms` is the member's own.
#[must_use]
pub fn apply(view: &View, event: Event, rules: &Rules, now_ms: u64) -> View {
    let mut next = view.clone();
    match event {
        Event::Listed { cluster, revision, entries } => {
            next.listed(cluster, revision, entries, now_ms);
        }
        Event::Changed(changes) => {
            // What one revision changed comes in one message, so only older messages are old.
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
                departed.heard_ms = Some(now_ms);
            }
        }
        Event::PeerFailed(name) => {
            if next.members.contains_key(&name) {
                next.failing.insert(name);
            }
        }
        Event::Ticked => {}
    }
    next.settle(rules, now_ms);
    next
}

impl View {
    /// True once the registry was read.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.revision > 0
    }

    /// Everything up to this revision was seen; a watch resumes behind it.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// True when a reader of `other` should look again: more than [`View::seen`] differs.
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
                    // Another process: what peers said of its predecessor is void.
                    self.failing.remove(&name);
                }
                self.members.insert(name, *registration);
            }
            Entry::Member(name, Read::Gone) => {
                if self.members.contains_key(&name) && !self.departed.contains_key(&name) {
                    self.vanished.insert(name.clone(), now_ms);
                    self.departed.insert(name, Departed { at_ms: now_ms, heard_ms: None });
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

    /// Judges the departed: the shrink guard first, then who has to go.
    fn settle(&mut self, rules: &Rules, now_ms: u64) {
        let departed = &self.departed;
        self.vanished
            .retain(|name, at_ms| departed.contains_key(name) || now_ms < *at_ms + rules.window_ms);
        let gone = self.vanished.keys().filter(|name| !self.members.contains_key(*name)).count();
        let before = self.members.len() + gone;
        let vanished = self.vanished.len();
        let distrusted = vanished >= 2 && vanished * 4 > before;
        self.counts.distrusts += u64::from(distrusted && !self.distrusted);
        self.distrusted = distrusted;

        let over = |(name, departed): (&String, &Departed)| {
            let failing = self.failing.contains(name);
            let over = *name != rules.own && departed.is_over(failing, distrusted, rules, now_ms);
            over.then(|| name.clone())
        };
        let over: Vec<String> = self.departed.iter().filter_map(over).collect();
        for name in over {
            self.remove(&name);
        }
        debug_assert!(self.departed.keys().all(|name| self.members.contains_key(name)));
    }
}

impl Departed {
    fn is_over(&self, failing: bool, distrusted: bool, rules: &Rules, now_ms: u64) -> bool {
        let unheard = self.heard_ms.unwrap_or(self.at_ms) + rules.unheard_ms;
        let grace = self.at_ms + rules.grace_ms;
        match (distrusted, failing) {
            (true, true) => now_ms >= grace,
            (true, false) => now_ms >= grace.max(unheard),
            (false, true) => true,
            (false, false) => now_ms >= grace.min(unheard),
        }
    }
}

fn missing<T>(known: &BTreeMap<String, T>, listed: &BTreeSet<String>) -> Vec<String> {
    known.keys().filter(|name| !listed.contains(*name)).cloned().collect()
}

#[cfg(test)]
mod tests;
