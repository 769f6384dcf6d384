//! This member's log of invalidations, and how far each peer and this member have applied each
//! other's.
//!
//! Positions are kept by name for as long as the process lives, whether or not the ring has the
//! peer: a member that returns continues where it was. Start at [`Journal::append`] for the way
//! out, and at [`Journal::receive`] for the way in.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use larder_proto::v1::{self, LogPosition, SyncMember, SyncState};
use larder_runtime::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::context::PeerDeps;
use super::exchange::{Arrival, RemoteState, run_for_response};
use super::log::{Invalidation, InvalidationLog, LogLimits};

/// Members whose positions are kept. The one unheard of for longest is forgotten first; its next
/// sync is a first contact.
const MAX_REMOTES: usize = 1_024;
/// A member that is not in the ring counts as present for this long after its last sync, ms: three
/// of its intervals.
const PRESENCE_MS: u64 = 3_000;

/// Removes entries that were invalidated at another member.
pub(crate) type Applier = Box<dyn Fn(&Invalidation) + Send + Sync>;

pub(super) struct Journal {
    member: Arc<str>,
    uid: Arc<str>,
    /// Identifies this process. Never 0.
    incarnation: u64,
    clock: Clock,
    log: Mutex<InvalidationLog>,
    /// The end of `log`.
    end: watch::Sender<u64>,
    remotes: Mutex<BTreeMap<Arc<str>, Arc<Remote>>>,
    /// Set once, by the cache. Without it nothing is held that could be invalidated.
    applier: OnceLock<Applier>,
}

/// Another member, in the ring or not.
#[derive(Default)]
pub(super) struct Remote {
    inner: Mutex<RemoteInner>,
    /// Never decreases.
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct RemoteInner {
    exchange: RemoteState,
    uid: String,
    /// When it sent the last request, ms, and its ring revision then.
    heard_ms: u64,
    revision: u64,
    /// The members of its ring at `named_revision`, if that was newer than this member's.
    named: Vec<SyncMember>,
    named_revision: u64,
}

/// How far a peer has confirmed this member's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) confirmed: u64,
    /// The log up to here was offered in vain.
    pub(super) failed: u64,
}

/// The outcome of an exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchanged {
    pub(super) confirmed: u64,
    pub(super) applied: u64,
    /// Neither end has anything left to send.
    pub(super) complete: bool,
    /// A position changed.
    pub(super) progressed: bool,
}

impl Journal {
    pub(super) fn new(deps: &PeerDeps) -> Self {
        Self {
            member: deps.member.clone(),
            uid: deps.uid.clone(),
            incarnation: deps.random.next().max(1),
            clock: deps.clock,
            log: Mutex::new(InvalidationLog::new(LogLimits::of_capacity(deps.capacity_bytes))),
            end: watch::Sender::new(0),
            remotes: Mutex::default(),
            applier: OnceLock::new(),
        }
    }

    pub(super) fn set_applier(&self, applier: Applier) {
        let set = self.applier.set(applier);
        assert!(set.is_ok(), "one cache belongs to a member");
    }

    /// Numbers an invalidation. The syncs with all peers start at once.
    pub(super) fn append(&self, what: Invalidation) -> u64 {
        let mut log = self.log.lock();
        // Read under the lock, so that the log's times do not decrease.
        let number = log.append(what, self.clock.now_ms());
        self.end.send_replace(number);
        number
    }

    pub(super) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    pub(super) fn log_end(&self) -> LogPosition {
        LogPosition { incarnation: self.incarnation, number: self.end() }
    }

    pub(super) fn remote(&self, name: &str) -> Arc<Remote> {
        let mut remotes = self.remotes.lock();
        if let Some(remote) = remotes.get(name) {
            return remote.clone();
        }
        if remotes.len() >= MAX_REMOTES {
            // A remote with a link is referenced there too.
            let unused = remotes.iter().filter(|(_, remote)| Arc::strong_count(remote) == 1);
            let oldest = unused.min_by_key(|(_, remote)| remote.inner.lock().heard_ms);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                remotes.remove(&name);
            }
        }
        let remote = Arc::new(Remote::default());
        remotes.insert(name.into(), remote.clone());
        remote
    }

    /// This member's message for the next sync with `remote`.
    pub(super) fn request(&self, remote: &Remote, ring_revision: u64) -> SyncState {
        let mut state = self.state(ring_revision);
        let inner = remote.inner.lock();
        inner.exchange.fill(&mut state);
        let log = self.log.lock();
        state.log_end = Some(LogPosition { number: log.end(), ..self.log_end() });
        state.run = inner.exchange.run_for_request(&log);
        state
    }

    /// Applies what a response brought. `own_end` is the end of the log that the request named.
    pub(super) fn finish(
        &self,
        remote: &Remote,
        mut response: v1::SyncResponse,
        own_end: u64,
        began_ms: u64,
    ) -> Exchanged {
        let mut state = response.state.take().unwrap_or_default();
        let mut inner = remote.inner.lock();
        (inner.named, inner.named_revision) = (response.members, state.ring_revision);
        let before = inner.exchange.clone();
        self.receive(remote, &mut inner, &mut state, Arrival::Response { began_ms });
        let exchange = &inner.exchange;
        Exchanged {
            confirmed: exchange.confirmed(),
            applied: exchange.applied(),
            complete: exchange.is_complete(own_end),
            progressed: !exchange.has_same_positions(&before),
        }
    }

    /// Answers a sync that another member began.
    pub(super) fn answer(&self, mut request: SyncState, ring_revision: u64) -> SyncState {
        let now_ms = self.clock.now_ms();
        let remote = self.remote(&request.member);
        let mut inner = remote.inner.lock();
        inner.uid.clone_from(&request.uid);
        (inner.heard_ms, inner.revision) = (now_ms, request.ring_revision);
        self.receive(&remote, &mut inner, &mut request, Arrival::Request);
        let mut state = self.state(ring_revision);
        inner.exchange.fill(&mut state);
        let log = self.log.lock();
        state.log_end = Some(LogPosition { number: log.end(), ..self.log_end() });
        state.run = run_for_response(&log, &request, self.incarnation, now_ms);
        state
    }

    /// `inner` stays locked while the run is applied: a concurrent exchange with the same peer must
    /// not confirm what is not applied yet.
    fn receive(
        &self,
        remote: &Remote,
        inner: &mut RemoteInner,
        message: &mut SyncState,
        arrival: Arrival,
    ) {
        for what in inner.exchange.receive(message, self.incarnation, arrival) {
            if let Some(applier) = self.applier.get() {
                applier(&from_wire(what));
            }
        }
        let confirmed = inner.exchange.confirmed();
        remote.progress.send_if_modified(|progress| {
            let grew = confirmed > progress.confirmed;
            progress.confirmed = progress.confirmed.max(confirmed);
            grew
        });
    }

    fn state(&self, ring_revision: u64) -> SyncState {
        SyncState {
            member: self.member.to_string(),
            uid: self.uid.to_string(),
            uptime_ms: self.clock.now_ms(),
            ring_revision,
            ..SyncState::default()
        }
    }

    /// Members that do not belong to this member's ring, `known`, as far as its peers report: those
    /// of a newer ring than this member's `revision`, and those that call this member.
    pub(super) fn unknown_members(&self, known: &BTreeMap<&str, &str>, revision: u64) -> usize {
        let now_ms = self.clock.now_ms();
        let mut unknown = BTreeMap::new();
        let mut note = |name: &str, uid: &str| {
            let own = if name == &*self.member { Some(&*self.uid) } else { None };
            if own.or(known.get(name).copied()) != Some(uid) {
                unknown.insert(name.to_owned(), uid.to_owned());
            }
        };
        for (name, remote) in &*self.remotes.lock() {
            let inner = remote.inner.lock();
            if inner.named_revision > revision {
                inner.named.iter().for_each(|member| note(&member.name, &member.uid));
            }
            let present = inner.heard_ms > 0 && now_ms - inner.heard_ms < PRESENCE_MS;
            if present && inner.revision > revision {
                note(name, &inner.uid);
            }
        }
        unknown.len()
    }
}

impl Remote {
    /// Takes the end of the peer's log from a call. True if this member is behind it.
    pub(super) fn see(&self, position: &LogPosition) -> bool {
        self.inner.lock().exchange.see(position)
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.progress.borrow().confirmed
    }

    /// The log up to `end` was offered in vain.
    pub(super) fn record_failure(&self, end: u64) {
        self.progress.send_if_modified(|progress| {
            let grew = end > progress.failed;
            progress.failed = progress.failed.max(end);
            grew
        });
    }
}

fn from_wire(what: v1::Invalidation) -> Invalidation {
    Invalidation {
        group: (!what.group.is_empty()).then(|| what.group.into()),
        keys: what.keys.into(),
        tags: what.tags.into(),
        copies_only: what.copies_only,
    }
}
