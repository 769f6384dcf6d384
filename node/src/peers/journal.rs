//! This member's log of invalidations, and how far each peer and this member have applied each
//! other's.
//!
//! Positions are kept by name for as long as the process lives, whether or not the ring has the
//! peer: a member that returns continues where it was. Start at [`Journal::append`], then
//! [`Journal::request`] and [`Journal::finish`] for a sync that this member begins, and
//! [`Journal::answer`] for one of another member. [`Journal::save`] and [`Past`] carry both over a
//! restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_proto::v1::{self, AppliedLog, LogPosition, MemberPosition, SyncState};
use larder_runtime::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::applied::{Applied, AppliedUpTo};
use super::deps::PeerDeps;
use super::exchange::{Arrival, OwnLogs, RemoteState, margin_ms, run_for_response};
use super::log::{Invalidation, InvalidationLog, LogImage, LogLimits};
use super::past::{FormerLogs, Past, PeerAnswer, RestoreVerdict, RingPeer, UNKNOWN_NUMBER, judge};
use super::recorder::{LogEvent, Recorder, Ticket};
use super::remote::{Remote, RemoteInner};
use super::stamp::RingStamp;
use super::wire::from_wire;

/// Members whose positions are kept. Beyond the limit the one that called longest ago is dropped;
/// its next sync is a first contact.
const MAX_REMOTES: usize = 1_024;
/// A member that is not in the ring counts as present for this long after its last sync, ms: three
/// of its intervals.
const PRESENCE_MS: u64 = 3_000;
/// The position in the log of a member outside the ring is saved for this long after its last call.
const SAVED_MS: u64 = 60_000;

/// Longest time that a position waits for the record of the first contact, ms.
const MET_LIMIT_MS: u64 = 1_000;

/// Removes entries that were invalidated at another member.
pub(crate) type Applier = Box<dyn Fn(&Invalidation) + Send + Sync>;

pub(super) struct Journal {
    member: Arc<str>,
    uid: Arc<str>,
    own: OwnLogs,
    /// The logs that the previous process saved, and those that it met after that.
    saved: Vec<AppliedLog>,
    met: Vec<AppliedLog>,
    /// Age of this member's cache at the start of this process, ms.
    cache_age_ms: u64,
    /// True until the entries of the previous process are fenced: nothing is applied before.
    holds_back: AtomicBool,
    /// While entries of the previous process wait: how long before the start of this one they were
    /// saved, ms.
    away_ms: Mutex<Option<u64>>,
    clock: Clock,
    log: Mutex<InvalidationLog>,
    /// The end of `log`.
    end: watch::Sender<u64>,
    remotes: Mutex<BTreeMap<Arc<str>, Arc<Remote>>>,
    former: Mutex<FormerLogs>,
    /// Set once. Without it nothing outlives the process.
    recorder: OnceLock<Recorder>,
    /// Set once, by the cache. Without it nothing is held that could be invalidated.
    applier: OnceLock<Applier>,
}

/// An invalidation in this member's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) number: u64,
    pub(crate) record: Ticket,
}

/// What [`Journal::save`] returns.
#[derive(Debug)]
pub(crate) struct Saved {
    /// The processes whose log this is, oldest first, this one last, each with its end.
    pub(crate) own: Vec<LogPosition>,
    pub(crate) log: LogImage,
    pub(crate) applied: Vec<AppliedLog>,
    pub(crate) cache_age_ms: u64,
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
        let Past { predecessors, log, applied, met, cache_age_ms, away_ms } = deps.past.clone();
        let (mut remotes, mut former) = (BTreeMap::new(), FormerLogs::default());
        for saved in applied.iter().chain(&met) {
            let inner =
                RemoteInner { exchange: RemoteState::saved(saved), ..RemoteInner::default() };
            let remote = Remote { inner: Mutex::new(inner), ..Remote::default() };
            remotes.insert(Arc::from(saved.member.as_str()), Arc::new(remote));
            // The previous process may have applied more of it before its end.
            let incarnation = saved.incarnation;
            former.add(LogPosition { incarnation, number: UNKNOWN_NUMBER }, 0);
        }
        let (limits, end) = (LogLimits::of_capacity(deps.capacity_bytes), log.end);
        Self {
            member: deps.member.clone(),
            uid: deps.uid.clone(),
            own: OwnLogs { incarnation: deps.random.next().max(1), predecessors },
            saved: applied,
            met,
            cache_age_ms,
            holds_back: AtomicBool::new(away_ms.is_some()),
            away_ms: Mutex::new(away_ms),
            clock: deps.clock,
            log: Mutex::new(InvalidationLog::continued(limits, log)),
            end: watch::Sender::new(end),
            remotes: Mutex::new(remotes),
            former: Mutex::new(former),
            recorder: OnceLock::new(),
            applier: OnceLock::new(),
        }
    }

    pub(super) fn set_applier(&self, applier: Applier) {
        let set = self.applier.set(applier);
        assert!(set.is_ok(), "one cache belongs to a member");
    }

    pub(super) fn set_recorder(&self, recorder: Recorder) {
        let set = self.recorder.set(recorder);
        assert!(set.is_ok(), "a member has one snapshot");
    }

    /// Applies an invalidation here, then numbers it, as one step: the end of the log covers what
    /// has been applied, for this member ([`Journal::applied`]) as well as for a peer
    /// ([`Journal::positions`]). The syncs with all peers start at once.
    pub(super) fn append(&self, what: Invalidation, apply: impl FnOnce(&Invalidation)) -> Appended {
        let mut log = self.log.lock();
        apply(&what);
        let next = log.end() + 1;
        let record = self.record(LogEvent::Own { number: next, what: &what });
        // Read under the lock, so that the log's times do not decrease.
        let number = log.append(what, self.clock.now_ms());
        self.end.send_replace(number);
        Appended { number, record }
    }

    fn record(&self, event: LogEvent<'_>) -> Ticket {
        self.recorder.get().map_or(Ticket::default(), |recorder| recorder.record(event))
    }

    fn is_recorded(&self, ticket: Ticket) -> bool {
        self.recorder.get().is_none_or(|recorder| recorder.has(ticket))
    }

    /// Waits until a record is kept. False after `limit`.
    pub(super) async fn recorded(&self, ticket: Ticket, limit: Duration) -> bool {
        match self.recorder.get() {
            Some(recorder) => recorder.wait_for(ticket, limit).await,
            None => true,
        }
    }

    /// The logs to save with entries that are read after this call. `rotate` is called between the
    /// last invalidation in the result and the next one. `ring` are the members in the ring.
    pub(super) fn save(&self, ring: &BTreeSet<&str>, rotate: impl FnOnce(LogPosition)) -> Saved {
        let log = {
            let log = self.log.lock();
            rotate(LogPosition { incarnation: self.own.incarnation, number: log.end() });
            log.image()
        };
        let now_ms = self.clock.now_ms();
        let mut applied = Vec::new();
        for (name, remote) in &*self.remotes.lock() {
            let inner = remote.inner.lock();
            let is_saved = ring.contains(&**name) || inner.called_within(SAVED_MS, now_ms);
            if inner.exchange.incarnation() != 0 && is_saved {
                applied.push(inner.exchange.saved_position(name));
            }
        }
        let end = LogPosition { incarnation: self.own.incarnation, number: log.end };
        let own = self.own.predecessors.iter().copied().chain([end]).collect();
        Saved { own, log, applied, cache_age_ms: self.cache_age_ms + now_ms }
    }

    /// Whether everything has been applied that was invalidated since the previous process saved
    /// its entries. `ring` are the other members in the ring.
    pub(super) fn restore_verdict(&self, ring: &[Arc<str>]) -> RestoreVerdict {
        let peer = |name: &Arc<str>| RingPeer {
            name: name.clone(),
            answer: self.remote(name).inner.lock().answer.clone(),
        };
        let ring: Vec<_> = ring.iter().map(peer).collect();
        let own = self.own.predecessors.iter().map(|log| log.incarnation);
        let own: Vec<_> = own.chain([self.own.incarnation]).collect();
        judge(&self.saved, &self.met, &own, &ring)
    }

    /// The entries of the previous process are fenced.
    pub(super) fn begin_restore(&self) {
        self.holds_back.store(false, Ordering::SeqCst);
    }

    /// No entries of the previous process wait any more.
    pub(super) fn end_restore(&self) {
        *self.away_ms.lock() = None;
    }

    pub(super) fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// How much of each log has been applied here. `ring` names the members of the ring.
    pub(super) fn applied<'n>(&self, ring: impl Iterator<Item = &'n str>) -> Applied {
        let now_ms = self.clock.now_ms();
        let mut logs: BTreeMap<Arc<str>, AppliedUpTo> = ring
            .map(|name| {
                let member: Arc<str> = name.into();
                let position = LogPosition::default();
                (member.clone(), AppliedUpTo { member, position, is_present: true })
            })
            .collect();
        for (member, remote) in self.known_remotes() {
            let inner = remote.inner.lock();
            let is_present = logs.contains_key(&member) || inner.called_within(PRESENCE_MS, now_ms);
            let position = inner.exchange.position();
            logs.insert(member.clone(), AppliedUpTo { member, position, is_present });
        }
        let (member, position) = (self.member.clone(), self.locked_end());
        logs.insert(member.clone(), AppliedUpTo { member, position, is_present: true });
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
        LogPosition { incarnation: self.own.incarnation, number: self.log.lock().end() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    pub(super) fn log_end(&self) -> LogPosition {
        LogPosition { incarnation: self.own.incarnation, number: self.end() }
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
            if let Some(name) = oldest.map(|(name, _)| name.clone())
                && let Some(remote) = remotes.remove(&name)
            {
                let inner = remote.inner.lock();
                self.note_former(&inner.exchange, inner.applied_ms);
            }
        }
        let remote = Arc::new(Remote::default());
        remotes.insert(name.into(), remote.clone());
        remote
    }

    /// This member's message for the next sync with `remote`.
    pub(super) fn request(&self, remote: &Remote, ring: RingStamp) -> SyncState {
        let inner = remote.inner.lock();
        self.message(&inner, ring, |log| inner.exchange.run_for_request(log))
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
        let witnessed = std::mem::take(&mut state.witnessed);
        let predecessors = state.predecessors.iter().map(|log| log.incarnation).collect();
        let mut inner = remote.inner.lock();
        (inner.named, inner.named_revision) = (response.members, state.ring_revision);
        let before = inner.exchange.clone();
        self.receive(remote, &mut inner, &mut state, Arrival::Response { began_ms });
        let incarnation = inner.exchange.incarnation();
        let answer = PeerAnswer { incarnation, predecessors, witnessed };
        inner.answer = inner.exchange.is_caught_up().then_some(answer);
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
        let message =
            self.message(&inner, ring, |log| run_for_response(log, &request, &self.own, now_ms));
        drop(inner);
        let restoring = request.restoring_ms;
        let witnessed = if restoring > 0 { self.witnessed(restoring, now_ms) } else { Vec::new() };
        SyncState { witnessed, ..message }
    }

    /// The logs from which this member has applied something in the last `past_ms` of a caller's
    /// time.
    fn witnessed(&self, past_ms: u64, now_ms: u64) -> Vec<LogPosition> {
        let since_ms = now_ms.saturating_sub(past_ms.saturating_add(margin_ms(past_ms)));
        let mut logs: Vec<_> = self.former.lock().used_since(since_ms).collect();
        for remote in self.remotes.lock().values() {
            let inner = remote.inner.lock();
            if inner.applied_ms.is_some_and(|at_ms| at_ms >= since_ms) {
                logs.push(inner.exchange.position());
            }
        }
        logs
    }

    /// The log of that process is not continued, or its position is forgotten.
    fn note_former(&self, exchange: &RemoteState, applied_ms: Option<u64>) {
        if let Some(applied_ms) = applied_ms {
            self.former.lock().add(exchange.position(), applied_ms);
        }
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
        if self.holds_back.load(Ordering::SeqCst) {
            // It would be applied to nothing, and be missed by the entries that wait.
            message.run = None;
        }
        let (before, applied_ms) = (inner.exchange.clone(), inner.applied_ms);
        let run = inner.exchange.receive(message, &self.own, arrival);
        if inner.exchange.incarnation() != before.incarnation() {
            (inner.answer, inner.applied_ms) = (None, None);
            let is_continued = |log: &LogPosition| log.incarnation == before.incarnation();
            if message.predecessors.iter().any(is_continued) {
                inner.applied_ms = applied_ms;
            } else {
                self.note_former(&before, applied_ms);
            }
            let incarnation = inner.exchange.incarnation();
            inner.met = self.record(LogEvent::Met { member: &message.member, incarnation });
            inner.met_limit_ms = self.clock.now_ms() + MET_LIMIT_MS;
        }
        if !run.is_empty() {
            inner.applied_ms = Some(self.clock.now_ms());
        }
        for what in run {
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
        inner: &RemoteInner,
        ring: RingStamp,
        run: impl FnOnce(&InvalidationLog) -> Option<v1::LogRun>,
    ) -> SyncState {
        let now_ms = self.clock.now_ms();
        let away_ms = *self.away_ms.lock();
        let log = self.log.lock();
        let log_end = LogPosition { incarnation: self.own.incarnation, number: log.end() };
        let mut message = SyncState {
            member: self.member.to_string(),
            uid: self.uid.to_string(),
            log_end: Some(log_end),
            uptime_ms: self.cache_age_ms.saturating_add(now_ms),
            ring_revision: ring.revision,
            ring_digest: ring.digest,
            run: run(&log),
            predecessors: self.own.predecessors.clone(),
            restoring_ms: away_ms.map_or(0, |away_ms| away_ms.saturating_add(now_ms).max(1)),
            ..SyncState::default()
        };
        inner.exchange.fill(&mut message);
        let is_kept = self.is_recorded(inner.met) || now_ms >= inner.met_limit_ms;
        message.applied = message.applied.filter(|_| is_kept);
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
            if inner.called_within(PRESENCE_MS, now_ms) {
                note(name, &inner.uid, inner.revision > revision);
            }
        }
        unknown.len()
    }
}
