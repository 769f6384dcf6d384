//! This member's log of invalidations, and how far each peer and this member have applied each
//! other's.
//!
//! Positions are kept by name for as long as the process lives, whether or not the ring has the
//! peer: a member that returns continues where it was. Start at [`Journal::append`], then
//! [`Journal::request`] and [`Journal::finish`] for a sync that this member begins, and
//! [`Journal::answer`] for one of another member.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use larder_proto::v1::{self, LogPosition, MemberPosition, SyncMember, SyncState};
use larder_runtime::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::applied::{Applied, AppliedLog};
use super::deps::PeerDeps;
use super::exchange::{Arrival, RemoteState, run_for_response};
use super::log::{Invalidation, InvalidationLog, LogLimits};
use super::stamp::RingStamp;

/// Members whose positions are kept. Beyond the limit the one that called longest ago is dropped;
/// its next sync is a first contact.
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
    /// The first and the last invalidation that it did not confirm in time and has not yet.
    late: Option<(u64, u64)>,
    /// The members of its ring at `named_revision`, if they differ from this member's.
    named: Vec<SyncMember>,
    named_revision: u64,
}

/// How far a peer has confirmed this member's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) confirmed: u64,
    /// The log up to here was offered to it without a response.
    pub(super) failed: u64,
}

/// The outcome of a sync that this member began.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncOutcome {
    pub(super) confirmed: u64,
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

    /// Applies an invalidation here, then numbers it, as one step: the end of the log covers what
    /// has been applied, for this member ([`Journal::applied`]) as well as for a peer
    /// ([`Journal::positions`]). The syncs with all peers start at once.
    pub(super) fn append(&self, what: Invalidation, apply: impl FnOnce(&Invalidation)) -> u64 {
        let mut log = self.log.lock();
        apply(&what);
        // Read under the lock, so that the log's times do not decrease.
        let number = log.append(what, self.clock.now_ms());
        self.end.send_replace(number);
        number
    }

    pub(super) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// How much of each log has been applied here. `ring` names the members of the ring.
    pub(super) fn applied<'n>(&self, ring: impl Iterator<Item = &'n str>) -> Applied {
        let now_ms = self.clock.now_ms();
        let mut logs: BTreeMap<Arc<str>, AppliedLog> = ring
            .map(|name| {
                let member: Arc<str> = name.into();
                let position = LogPosition::default();
                (member.clone(), AppliedLog { member, position, is_present: true })
            })
            .collect();
        for (member, remote) in self.known_remotes() {
            let inner = remote.inner.lock();
            let was_heard = inner.heard_ms > 0;
            let is_present = logs.contains_key(&member)
                || (was_heard && now_ms.saturating_sub(inner.heard_ms) < PRESENCE_MS);
            let position = inner.exchange.position();
            logs.insert(member.clone(), AppliedLog { member, position, is_present });
        }
        let (member, position) = (self.member.clone(), self.locked_end());
        logs.insert(member.clone(), AppliedLog { member, position, is_present: true });
        Applied(logs.into_values().collect())
    }

    /// [`Journal::applied`] for a peer. What is read from the cache afterwards is at least as new.
    pub(super) fn positions(&self) -> Vec<MemberPosition> {
        let named = |member: &str, position| MemberPosition {
            member: member.to_owned(),
            position: Some(position),
        };
        let remotes = self.known_remotes().into_iter();
        let applied = remotes.map(|(name, remote)| {
            // Locked while a run is applied.
            named(&name, remote.inner.lock().exchange.position())
        });
        let own = std::iter::once_with(|| named(&self.member, self.locked_end()));
        applied
            .chain(own)
            .filter(|known| known.position.unwrap_or_default().incarnation > 0)
            .collect()
    }

    fn known_remotes(&self) -> Vec<(Arc<str>, Arc<Remote>)> {
        let remotes = self.remotes.lock();
        remotes.iter().map(|(name, remote)| (name.clone(), remote.clone())).collect()
    }

    /// The end of the log once an [`Journal::append`] that runs has finished.
    fn locked_end(&self) -> LogPosition {
        LogPosition { incarnation: self.incarnation, number: self.log.lock().end() }
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
    pub(super) fn request(&self, remote: &Remote, ring: RingStamp) -> SyncState {
        let exchange = &remote.inner.lock().exchange;
        self.message(exchange, ring, |log| exchange.run_for_request(log))
    }

    /// Applies what a response brought. `own_end` is the end of the log that the request named.
    pub(super) fn finish(
        &self,
        remote: &Remote,
        mut response: v1::SyncResponse,
        own_end: u64,
        began_ms: u64,
    ) -> SyncOutcome {
        let mut state = response.state.take().unwrap_or_default();
        let mut inner = remote.inner.lock();
        (inner.named, inner.named_revision) = (response.members, state.ring_revision);
        let before = inner.exchange.clone();
        self.receive(remote, &mut inner, &mut state, Arrival::Response { began_ms });
        let exchange = &inner.exchange;
        SyncOutcome {
            confirmed: exchange.confirmed(),
            complete: exchange.is_complete(own_end),
            progressed: !exchange.has_same_positions(&before),
        }
    }

    /// Answers a sync that another member began.
    pub(super) fn answer(&self, mut request: SyncState, ring: RingStamp) -> SyncState {
        let now_ms = self.clock.now_ms();
        let remote = self.remote(&request.member);
        let mut inner = remote.inner.lock();
        inner.uid.clone_from(&request.uid);
        (inner.heard_ms, inner.revision) = (now_ms, request.ring_revision);
        self.receive(&remote, &mut inner, &mut request, Arrival::Request);
        self.message(&inner.exchange, ring, |log| {
            run_for_response(log, &request, self.incarnation, now_ms)
        })
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
        if let Some((from, to)) = inner.late.take_if(|(_, to)| *to <= confirmed) {
            self.drop_copies_again(from, to);
        }
    }

    /// A peer has confirmed the invalidations `from` to `to` late. Until then other members may have
    /// copied old values from it, after they had dropped theirs: the copies of these groups go.
    fn drop_copies_again(&self, from: u64, to: u64) {
        let groups = self.log.lock().groups(from, to);
        for group in groups {
            let copies = Invalidation { copies_only: true, ..Invalidation::whole(group) };
            // This member keeps no copies of a peer that it bypasses.
            self.append(copies, |_| ());
        }
    }

    fn message(
        &self,
        exchange: &RemoteState,
        ring: RingStamp,
        run: impl FnOnce(&InvalidationLog) -> Option<v1::LogRun>,
    ) -> SyncState {
        let log = self.log.lock();
        let log_end = LogPosition { incarnation: self.incarnation, number: log.end() };
        let mut message = SyncState {
            member: self.member.to_string(),
            uid: self.uid.to_string(),
            log_end: Some(log_end),
            uptime_ms: self.clock.now_ms(),
            ring_revision: ring.revision,
            ring_digest: ring.digest,
            run: run(&log),
            ..SyncState::default()
        };
        exchange.fill(&mut message);
        message
    }

    /// The number of members that this member's ring lacks. `known` are the names and uids in its
    /// ring, at `revision`. Others are those in a peer's ring, and those that call this member. A
    /// member that lost its lease may be gone here and still own keys in a peer's ring.
    pub(super) fn unknown_members(&self, known: &BTreeMap<&str, &str>, revision: u64) -> usize {
        let now_ms = self.clock.now_ms();
        let mut unknown = BTreeMap::new();
        let mut note = |name: &str, uid: &str, is_newer: bool| {
            let own = if name == &*self.member { Some(&*self.uid) } else { None };
            let here = own.or(known.get(name).copied());
            // An older ring may name the predecessor of a pod.
            if here.is_none() || (is_newer && here != Some(uid)) {
                unknown.insert(name.to_owned(), uid.to_owned());
            }
        };
        for (name, remote) in &*self.remotes.lock() {
            let inner = remote.inner.lock();
            let is_newer = inner.named_revision > revision;
            inner.named.iter().for_each(|member| note(&member.name, &member.uid, is_newer));
            if inner.heard_ms > 0 && now_ms.saturating_sub(inner.heard_ms) < PRESENCE_MS {
                note(name, &inner.uid, inner.revision > revision);
            }
        }
        unknown.len()
    }
}

impl Remote {
    /// Takes the end of the peer's log from a call. True if this member is behind it.
    pub(super) fn observe(&self, position: &LogPosition) -> bool {
        self.inner.lock().exchange.observe(position)
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.progress.borrow().confirmed
    }

    /// How much of the peer's log has been applied here.
    pub(super) fn applied(&self) -> u64 {
        self.inner.lock().exchange.applied()
    }

    /// The peer did not confirm an invalidation in time.
    pub(super) fn record_late(&self, number: u64) {
        let mut inner = self.inner.lock();
        let (from, to) = inner.late.unwrap_or((number, number));
        inner.late = Some((from.min(number), to.max(number)));
    }

    /// A sync that offered the log up to `end` got no response.
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
