//! The other members: who owns which key, and one client for each.
//!
//! A [`View`] joins a ring with the peers that it names; it is replaced as a whole and read
//! without a lock. A peer that does not answer is by-passed: its keys go to whoever the ring names
//! next, so that all members agree on the stand-in. Nothing here knows groups' contents, and only
//! `peers/channel.rs` opens a connection.

mod batch;
mod channel;
mod health;
mod peer;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use larder_proto::config::Placement;
use larder_proto::registry::Registration;
use larder_ring::Ring;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;

use crate::membership::Reporter;
use crate::metrics::RingMetrics;
pub use peer::{Peer, Unanswered};

/// Members that are considered for a key: its owner and those that stand in for it.
const CANDIDATES: usize = 3;

/// The other members. Clones share them.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    me: Arc<str>,
    placement: Placement,
    view: ArcSwap<View>,
    context: Arc<Context>,
}

/// What every peer's client needs.
pub(crate) struct Context {
    pub(crate) me: Arc<str>,
    pub(crate) tasks: Tasks,
    pub(crate) random: Random,
    pub(crate) metrics: RingMetrics,
    /// Limit of a call that waits for a load at the owner.
    pub(crate) patience: Duration,
    /// Whom to tell what calls find out about members; set once.
    pub(crate) reporter: OnceLock<Reporter>,
}

/// One ring with its peers. Never changes; another one takes its place.
pub struct View {
    revision: u64,
    me: Arc<str>,
    ring: Ring,
    /// By the ring's index; nothing stands for this member.
    routes: Vec<Option<Arc<Peer>>>,
    registrations: BTreeMap<String, Registration>,
}

/// Who answers for a key now.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'v> {
    /// This member.
    Here,
    /// Another one.
    There(&'v Arc<Peer>),
}

impl Peers {
    /// Knows nobody: every key is this member's.
    pub(crate) fn new(placement: Placement, context: Context) -> Self {
        let (me, context) = (context.me.clone(), Arc::new(context));
        let view = View::new(0, &me, &placement, BTreeMap::new(), Vec::new());
        Self(Arc::new(Shared { me, placement, view: ArcSwap::from_pointee(view), context }))
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<View>> {
        self.0.view.load()
    }

    /// Tells `reporter` from now on which members answer and which do not.
    pub(crate) fn report_to(&self, reporter: Reporter) {
        assert!(self.0.context.reporter.set(reporter).is_ok(), "one membership a member");
    }

    /// Asks members that lost their lease whether they are there, and reports it.
    pub(crate) async fn ask_departed<'n>(&self, names: impl Iterator<Item = &'n String>) {
        let view = self.view();
        let asked = names.filter_map(|name| view.peer(name)).map(|peer| peer.ask());
        futures::future::join_all(asked).await;
    }

    /// How keys are placed.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.0.placement
    }

    /// Takes over what the registry says. A peer keeps its connection unless its address or its
    /// pod changed; a ring is only made anew when members or weights changed.
    pub(crate) fn update(&self, revision: u64, registrations: &BTreeMap<String, Registration>) {
        let old = self.0.view.load_full();
        let kept = |name: &str, registration: &Registration| {
            let peer = old.peer(name)?.clone();
            let before = old.registrations.get(name)?;
            let same = before.metadata.uid == registration.metadata.uid
                && before.metadata.peer_address == registration.metadata.peer_address;
            same.then_some(peer)
        };
        let others = registrations.iter().filter(|(name, _)| ***name != *self.0.me);
        let peers: Vec<_> = others
            .map(|(name, registration)| {
                kept(name, registration).unwrap_or_else(|| {
                    let address = &registration.metadata.peer_address;
                    Arc::new(Peer::start(name, address, self.0.context.clone()))
                })
            })
            .collect();
        for gone in old.peers() {
            if !registrations.contains_key(&**gone.name()) {
                self.0.context.metrics.forget_peer(gone.name());
            }
        }
        let same_ring = old.registrations.len() == registrations.len()
            && registrations.iter().all(|(name, registration)| {
                let before = old.registrations.get(name);
                before.is_some_and(|b| b.ring_member(name) == registration.ring_member(name))
            });
        let view = if same_ring && revision != 0 {
            View::with_ring(revision, &self.0.me, old.ring.clone(), registrations.clone(), peers)
        } else {
            let me = &self.0.me;
            View::new(revision, me, &self.0.placement, registrations.clone(), peers)
        };
        self.0.context.metrics.members.set(as_gauge(view.registrations.len() as u64));
        self.0.context.metrics.revision.set(as_gauge(revision));
        self.0.view.store(Arc::new(view));
    }
}

impl View {
    fn new(
        revision: u64,
        me: &Arc<str>,
        placement: &Placement,
        registrations: BTreeMap<String, Registration>,
        peers: Vec<Arc<Peer>>,
    ) -> Self {
        let members = registrations.iter().map(|(name, r)| r.ring_member(name));
        let ring = Ring::new(&placement.into(), members);
        Self::with_ring(revision, me, ring, registrations, peers)
    }

    fn with_ring(
        revision: u64,
        me: &Arc<str>,
        ring: Ring,
        registrations: BTreeMap<String, Registration>,
        peers: Vec<Arc<Peer>>,
    ) -> Self {
        let mut by_name: BTreeMap<_, _> =
            peers.into_iter().map(|peer| (peer.name().clone(), peer)).collect();
        let routes = ring.members().iter().map(|m| by_name.remove(m.name.as_str())).collect();
        Self { revision, me: me.clone(), ring, routes, registrations }
    }

    /// Who answers for a key: its owner or, while that one does not answer, whoever the ring
    /// names next.
    #[must_use]
    pub fn owner(&self, group: &str, key: &[u8]) -> Owner<'_> {
        match self.ring.owner_index(group, key).map(|index| &self.routes[index]) {
            None | Some(None) => Owner::Here,
            Some(Some(peer)) if peer.is_up() => Owner::There(peer),
            Some(Some(_)) => self.stand_in(group, key),
        }
    }

    fn stand_in(&self, group: &str, key: &[u8]) -> Owner<'_> {
        for member in self.ring.owners(group, key, CANDIDATES) {
            let index = self.ring.members().iter().position(|m| m.name == member.name);
            match index.map(|index| &self.routes[index]) {
                Some(Some(peer)) if !peer.is_up() => {}
                Some(Some(peer)) => return Owner::There(peer),
                Some(None) | None => return Owner::Here,
            }
        }
        Owner::Here
    }

    /// Name of the member that the ring places a key on, whether it answers or not.
    #[must_use]
    pub fn placed(&self, group: &str, key: &[u8]) -> &str {
        self.ring.owner(group, key).map_or(&self.me, |member| &member.name)
    }

    /// Revision of the registry from which the ring was made; 0 before the first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Every member with its registration, this one included once it is registered.
    #[must_use]
    pub fn registrations(&self) -> &BTreeMap<String, Registration> {
        &self.registrations
    }

    fn peer(&self, name: &str) -> Option<&Arc<Peer>> {
        self.routes.iter().flatten().find(|peer| &**peer.name() == name)
    }

    /// The other members.
    #[must_use]
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.routes.iter().flatten().cloned().collect()
    }
}

fn as_gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.revision)
            .field("members", &self.registrations.keys())
            .finish_non_exhaustive()
    }
}
