//! One ring joined with the peers that it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder_proto::config::Placement;
use larder_proto::registry::Registration;
use larder_ring::Ring;

use super::peer::Peer;
use super::stamp::RingStamp;

/// Members considered for a key: its owner and the stand-ins after it.
const CANDIDATES: usize = 3;

/// A ring with a client for each of its members. Immutable: a change of members makes another.
pub struct RingView {
    stamp: RingStamp,
    /// Name of this member.
    member: Arc<str>,
    ring: Ring,
    /// In the order of the ring's members; `None` for this member.
    routes: Vec<Option<Arc<Peer>>>,
    registrations: BTreeMap<String, Registration>,
}

/// The member that answers for a key now.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'v> {
    /// This member.
    Here,
    /// Another one.
    There(&'v Arc<Peer>),
}

impl RingView {
    pub(super) fn new(
        revision: u64,
        member: &Arc<str>,
        placement: &Placement,
        registrations: BTreeMap<String, Registration>,
        peers: Vec<Arc<Peer>>,
    ) -> Self {
        let members = registrations.iter().map(|(name, r)| r.ring_member(name));
        let ring = Ring::new(&placement.into(), members);
        Self::with_ring(revision, member, ring, registrations, peers)
    }

    fn with_ring(
        revision: u64,
        member: &Arc<str>,
        ring: Ring,
        registrations: BTreeMap<String, Registration>,
        peers: Vec<Arc<Peer>>,
    ) -> Self {
        let mut by_name: BTreeMap<_, _> =
            peers.into_iter().map(|peer| (peer.name().clone(), peer)).collect();
        let routes = ring.members().iter().map(|m| by_name.remove(m.name.as_str())).collect();
        let stamp = RingStamp::of(revision, &registrations);
        Self { stamp, member: member.clone(), ring, routes, registrations }
    }

    /// The view of a later revision. The ring is computed again only if a member, a weight or a
    /// zone changed.
    pub(super) fn next(
        &self,
        revision: u64,
        placement: &Placement,
        registrations: BTreeMap<String, Registration>,
        peers: Vec<Arc<Peer>>,
    ) -> Self {
        if self.has_ring_of(&registrations) && revision != 0 {
            Self::with_ring(revision, &self.member, self.ring.clone(), registrations, peers)
        } else {
            Self::new(revision, &self.member, placement, registrations, peers)
        }
    }

    /// True if a ring of these members would be the same.
    pub(super) fn has_ring_of(&self, registrations: &BTreeMap<String, Registration>) -> bool {
        self.registrations.len() == registrations.len()
            && registrations.iter().all(|(name, registration)| {
                let before = self.registrations.get(name);
                before.is_some_and(|b| b.ring_member(name) == registration.ring_member(name))
            })
    }

    /// The member that answers for a key: its owner or, while the owner does not answer, the next
    /// member in the ring's order. All members agree on that stand-in.
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

    /// Name of the member that the ring places a key on, whether or not it answers.
    #[must_use]
    pub fn placed(&self, group: &str, key: &[u8]) -> &str {
        self.ring.owner(group, key).map_or(&self.member, |member| &member.name)
    }

    /// Index into [`RingView::members`] of the member that answers for a key while its owner does
    /// not.
    pub(crate) fn stand_in_index(&self, group: &str, key: &[u8]) -> Option<usize> {
        let name = &self.ring.owners(group, key, 2).get(1)?.name;
        self.members().binary_search_by(|member| member.name.cmp(name)).ok()
    }

    /// Index into [`RingView::members`] of the member that the ring places a key on.
    pub(crate) fn placed_index(&self, group: &str, key: &[u8]) -> Option<usize> {
        self.ring.owner_index(group, key)
    }

    /// The members of the ring, sorted by name.
    pub(crate) fn members(&self) -> &[larder_ring::Member] {
        self.ring.members()
    }

    /// The other member that the ring places a key on; `None` if it is this one.
    pub(super) fn placed_peer(&self, group: &str, key: &[u8]) -> Option<&Arc<Peer>> {
        self.routes[self.ring.owner_index(group, key)?].as_ref()
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn stamp(&self) -> RingStamp {
        self.stamp
    }

    /// Equal for rings with the same names, uids, weights and zones.
    pub(crate) fn digest(&self) -> u64 {
        self.stamp.digest
    }

    /// Registry revision from which the ring was built; 0 before the first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.stamp.revision
    }

    /// Every member with its registration, this one included once it is registered.
    #[must_use]
    pub fn registrations(&self) -> &BTreeMap<String, Registration> {
        &self.registrations
    }

    /// The other members.
    #[must_use]
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.routes.iter().flatten().cloned().collect()
    }

    pub(super) fn peer(&self, name: &str) -> Option<&Arc<Peer>> {
        self.routes.iter().flatten().find(|peer| &**peer.name() == name)
    }
}

impl std::fmt::Debug for RingView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingView")
            .field("revision", &self.stamp.revision)
            .field("members", &self.registrations.keys())
            .finish_non_exhaustive()
    }
}
