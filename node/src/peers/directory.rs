//! The current [`RingView`], and how it is replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use larder_proto::config::Placement;
use larder_proto::registry::Registration;

use super::context::{HealthListener, PeerContext};
use super::peer::Peer;
use super::ring::RingView;

/// The other members. Clones share them.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    placement: Placement,
    view: ArcSwap<RingView>,
    context: Arc<PeerContext>,
}

impl Peers {
    /// Starts without members: this member owns every key.
    pub(crate) fn new(placement: Placement, context: PeerContext) -> Self {
        let view = RingView::new(0, &context.member, &placement, BTreeMap::new(), Vec::new());
        let context = Arc::new(context);
        Self(Arc::new(Shared { placement, view: ArcSwap::from_pointee(view), context }))
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

    /// Probes members that lost their lease, and reports which of them answer.
    pub(crate) async fn probe_departed<'n>(&self, names: impl Iterator<Item = &'n String>) {
        let view = self.view();
        let probes = names.filter_map(|name| view.peer(name)).map(|peer| peer.probe());
        futures::future::join_all(probes).await;
    }

    /// Adopts the members of a registry revision. A peer keeps its connection unless its address
    /// or its pod changed.
    pub(crate) fn update(&self, revision: u64, registrations: &BTreeMap<String, Registration>) {
        let Shared { placement, view, context } = &*self.0;
        let old = view.load_full();
        let others = registrations.iter().filter(|(name, _)| ***name != *context.member);
        let peers = others
            .map(|(name, registration)| {
                unchanged_peer(&old, name, registration).unwrap_or_else(|| {
                    let address = &registration.metadata.peer_address;
                    Arc::new(Peer::start(name, address, context))
                })
            })
            .collect();
        for gone in old.peers() {
            if !registrations.contains_key(&**gone.name()) {
                context.metrics.forget_peer(gone.name());
            }
        }
        context.metrics.members.set(to_gauge(registrations.len() as u64));
        context.metrics.revision.set(to_gauge(revision));
        let next = old.next(revision, placement, registrations.clone(), peers);
        view.store(Arc::new(next));
    }
}

fn unchanged_peer(old: &RingView, name: &str, registration: &Registration) -> Option<Arc<Peer>> {
    let before = &old.registrations().get(name)?.metadata;
    let now = &registration.metadata;
    let same = before.uid == now.uid && before.peer_address == now.peer_address;
    old.peer(name).filter(|_| same).cloned()
}

fn to_gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
