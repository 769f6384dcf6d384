//! The current [`RingView`], and how it is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use futures::future::join_all;
use larder_proto::config::Placement;
use larder_proto::registry::Registration;
use larder_proto::v1::{LogPosition, MemberPosition, SyncMember, SyncRequest, SyncResponse};
use larder_runtime::tasks::Tasks;
use tokio::sync::watch;

use super::applied::Applied;
use super::context::{HealthListener, MayLackMembers, PeerContext};
use super::deps::PeerDeps;
use super::journal::{Appended, Applier, Saved};
use super::log::Invalidation;
use super::past::RestoreVerdict;
use super::peer::Peer;
use super::previous::PreviousRing;
use super::recorder::{Recorder, Ticket};
use super::ring::RingView;
use super::state::ANSWER_TIMEOUT_MS;

/// The other members. Clones share them.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    placement: Placement,
    view: ArcSwap<RingView>,
    /// `None` unless the ring changed lately.
    previous: ArcSwapOption<PreviousRing>,
    /// Number of changes of the ring.
    changes: watch::Sender<u64>,
    context: Arc<PeerContext>,
}

impl Peers {
    /// Starts without members: this member owns every key.
    pub(crate) fn new(placement: Placement, deps: PeerDeps) -> Self {
        let view = RingView::new(0, &deps.member, &placement, BTreeMap::new(), Vec::new());
        let context = Arc::new(PeerContext::new(deps));
        let (previous, changes) = (ArcSwapOption::empty(), watch::Sender::new(0));
        let view = ArcSwap::from_pointee(view);
        Self(Arc::new(Shared { placement, view, previous, changes, context }))
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<RingView>> {
        self.0.view.load()
    }

    /// How keys are placed.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.0.placement
    }

    /// Calls `listener` from now on whenever a member starts or stops answering.
    ///
    /// # Panics
    /// On the second call.
    pub(crate) fn set_health_listener(&self, listener: HealthListener) {
        let set = self.0.context.health_listener.set(listener);
        assert!(set.is_ok(), "a member joins one cluster");
    }

    /// Asks `may_lack_members` from now on whether a member may exist that is not in the ring.
    ///
    /// # Panics
    /// On the second call.
    pub(crate) fn set_may_lack_members(&self, may_lack_members: MayLackMembers) {
        let set = self.0.context.may_lack_members.set(may_lack_members);
        assert!(set.is_ok(), "a member joins one cluster");
    }

    /// Reports to the health listener which of the members that lost their lease answer.
    pub(crate) fn report_departed<'n>(&self, names: impl Iterator<Item = &'n String>) {
        let view = self.view();
        names.filter_map(|name| view.peer(name)).for_each(|peer| peer.link.report_health());
    }

    /// The runtime of everything that waits for a peer.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.context.deps.tasks
    }

    /// Calls `applier` from now on for every invalidation of another member.
    ///
    /// # Panics
    /// On the second call.
    pub(crate) fn set_applier(&self, applier: Applier) {
        self.0.context.journal.set_applier(applier);
    }

    /// Applies an invalidation of this member here with `apply`, numbers it, and starts to send it
    /// to every peer.
    pub(crate) fn append(&self, what: Invalidation, apply: impl FnOnce(&Invalidation)) -> Appended {
        self.0.context.deps.metrics.invalidations.inc();
        self.0.context.journal.append(what, apply)
    }

    /// How much of each member's log has been applied here.
    pub(crate) fn applied(&self) -> Applied {
        let view = self.view();
        self.0.context.journal.applied(view.registrations().keys().map(String::as_str))
    }

    /// [`Peers::applied`] for another member.
    pub(crate) fn positions(&self) -> Vec<MemberPosition> {
        self.0.context.journal.positions()
    }

    /// Waits until every peer that answers has synced for the first time.
    pub(crate) async fn wait_until_synced(&self) {
        let peers = self.view().peers();
        join_all(peers.iter().map(|peer| peer.link.wait_until_synced())).await;
    }

    /// Changes whenever the ring changes. See [`Peers::previous`].
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The ring before the latest change, for a while after it.
    pub(crate) fn previous(&self) -> Option<Arc<PreviousRing>> {
        self.0.previous.load_full()
    }

    /// Forgets `previous`, unless another one has replaced it.
    pub(crate) fn forget_previous(&self, previous: &Arc<PreviousRing>) {
        _ = self.0.previous.compare_and_swap(previous, None);
    }

    /// The member that owned a key before the latest change of the ring, if this one owns it now
    /// and has not taken over yet what the other one holds.
    pub(crate) fn previous_owner(&self, group: &str, key: &[u8]) -> Option<Arc<Peer>> {
        let previous = self.0.previous.load();
        let peer = previous.as_ref()?.owner(group, key)?;
        (self.view().placed(group, key) == &*self.0.context.deps.member).then(|| peer.clone())
    }

    /// Name of the member that owned a key before the latest change of the ring, if this one owns it
    /// now.
    pub(crate) fn previously_placed(&self, group: &str, key: &[u8]) -> Option<String> {
        let previous = self.0.previous.load();
        let name = previous.as_ref()?.placed(group, key)?.to_owned();
        (self.view().placed(group, key) == &*self.0.context.deps.member).then_some(name)
    }

    /// Waits until a record is kept over a restart. False if that takes too long.
    pub(crate) async fn recorded(&self, record: Ticket) -> bool {
        let limit = Duration::from_millis(ANSWER_TIMEOUT_MS);
        self.0.context.journal.recorded(record, limit).await
    }

    /// Records the log with `recorder` from now on.
    ///
    /// # Panics
    /// On the second call.
    pub(crate) fn set_recorder(&self, recorder: Recorder) {
        self.0.context.journal.set_recorder(recorder);
    }

    /// The logs to save with entries that are read after this call. `rotate` is called with the end
    /// of this member's log, and before its next invalidation is recorded.
    pub(crate) fn save(&self, rotate: impl FnOnce(LogPosition)) -> Saved {
        let view = self.view();
        let ring = view.registrations().keys().map(String::as_str).collect();
        self.0.context.journal.save(&ring, rotate)
    }

    /// Whether the entries of the previous process may be served, for the ring in force.
    pub(crate) fn restore_verdict(&self) -> RestoreVerdict {
        let ring: Vec<_> = self.view().peers().iter().map(|peer| peer.name().clone()).collect();
        self.0.context.journal.restore_verdict(&ring)
    }

    /// The entries of the previous process are fenced: invalidations are applied from now on.
    pub(crate) fn begin_restore(&self) {
        self.0.context.journal.begin_restore();
    }

    /// Ends the time in which peers are asked for what [`Peers::restore_verdict`] needs.
    pub(crate) fn end_restore(&self) {
        self.0.context.journal.end_restore();
    }

    /// Counts `missed` invalidations that peers did not confirm in time.
    pub(crate) fn count_missed(&self, missed: u64) {
        self.0.context.deps.metrics.drops_missed.inc_by(missed);
    }

    /// Members that exist according to other members, but not in `view`; at least 1 if one may
    /// exist that no other member has reported.
    pub(crate) fn unknown_members(&self, view: &RingView) -> usize {
        let registrations = view.registrations().iter();
        let known = registrations.map(|(name, r)| (&**name, &*r.metadata.uid)).collect();
        let reported = self.0.context.journal.unknown_members(&known, view.revision());
        let may_lack_members = self.0.context.may_lack_members.get();
        reported.max(may_lack_members.is_some_and(|may_lack| may_lack()).into())
    }

    /// The end of this member's log.
    pub(crate) fn log_end(&self) -> LogPosition {
        self.0.context.journal.log_end()
    }

    /// A member called this one; its log ended at `log_end`.
    pub(crate) fn heard(&self, name: &str, log_end: Option<&LogPosition>) {
        if let Some(peer) = self.view().peer(name) {
            peer.link.heard(log_end);
        }
    }

    /// Answers a sync: applies the caller's invalidations, and returns those that it misses.
    #[must_use]
    pub fn sync(&self, request: SyncRequest) -> SyncResponse {
        let view = self.view();
        let state = request.state.unwrap_or_default();
        let (caller, log_end) = (state.member.clone(), state.log_end);
        let ring = self.0.context.ring();
        let differs = state.ring_digest != ring.digest;
        let state = self.0.context.journal.answer(state, ring);
        self.heard(&caller, log_end.as_ref());
        let registrations = view.registrations().iter();
        let named = registrations.filter(|_| differs);
        let members = named
            .map(|(name, r)| SyncMember { name: name.clone(), uid: r.metadata.uid.clone() })
            .collect();
        SyncResponse { state: Some(state), members }
    }

    /// Adopts the members of a registry revision. A peer keeps its connection unless its address
    /// or its pod changed.
    pub(crate) fn update(&self, revision: u64, registrations: &BTreeMap<String, Registration>) {
        let Shared { placement, view, previous, changes, context } = &*self.0;
        let PeerDeps { member, metrics, .. } = &context.deps;
        let old = view.load_full();
        let others = registrations.iter().filter(|(name, _)| ***name != **member);
        let kept = |name: &str| {
            registrations.get(name).is_some_and(|now| unchanged_peer(&old, name, now).is_some())
        };
        context.ejections.lock().set_peers(others.clone().count(), kept);
        let peers: Vec<_> = others
            .map(|(name, registration)| {
                unchanged_peer(&old, name, registration).unwrap_or_else(|| {
                    let address = &registration.metadata.peer_address;
                    Arc::new(Peer::start(name, address, context))
                })
            })
            .collect();
        for gone in old.peers() {
            if !peers.iter().any(|peer| Arc::ptr_eq(peer, &gone)) {
                gone.link.retire();
            }
            if !registrations.contains_key(&**gone.name()) {
                metrics.forget_peer(gone.name());
            }
        }
        metrics.set_ring(registrations.len(), revision);
        let next = Arc::new(old.next(revision, placement, registrations.clone(), peers));
        let ring_changed = !old.has_ring_of(registrations);
        if ring_changed {
            let last = previous.load();
            let before = PreviousRing::new((&old, &next), last.as_deref(), placement, member);
            // Before the view: a read that finds this member an owner finds the previous one too.
            previous.store(before.map(Arc::new));
        }
        context.set_ring(next.stamp());
        view.store(next);
        if ring_changed {
            changes.send_modify(|changes| *changes += 1);
        }
    }
}

fn unchanged_peer(old: &RingView, name: &str, registration: &Registration) -> Option<Arc<Peer>> {
    let before = &old.registrations().get(name)?.metadata;
    let now = &registration.metadata;
    let same = before.uid == now.uid && before.peer_address == now.peer_address;
    old.peer(name).filter(|_| same).cloned()
}
