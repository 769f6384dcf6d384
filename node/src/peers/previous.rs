//! The ring before the latest change: which member may hold the entries of the keys that this one
//! has gained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_proto::config::Placement;
use larder_ring::diff;
use tokio::time::Instant;

use super::peer::Peer;
use super::ring::RingView;

/// How long the previous owner of a key is known after a change of the ring.
const WINDOW: Duration = Duration::from_secs(60);

/// The ring before a change. Keeps the members that left reachable.
pub(crate) struct PreviousRing {
    view: Arc<RingView>,
    /// Until when this member counts as one that has just joined.
    joins_until: Option<Instant>,
    sources: Vec<Source>,
    until: Instant,
}

/// A member that owned keys which this one owns now.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) peer: Arc<Peer>,
    /// Its part of this member's keys, 0 to 1.
    pub(crate) share: f64,
    is_done: Arc<AtomicBool>,
}

impl Source {
    /// It has nothing more for this member, or is not asked any more.
    pub(crate) fn mark_done(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }
}

impl PreviousRing {
    /// The ring before `after`, which replaces `before`. For a member that joins it is the ring
    /// without itself, also when a further change follows shortly: it may not have taken over
    /// everything yet. `None` if nothing is placed on this member.
    pub(super) fn new(
        (before, after): (&Arc<RingView>, &Arc<RingView>),
        last: Option<&Self>,
        placement: &Placement,
        member: &Arc<str>,
    ) -> Option<Self> {
        let is_in = |view: &RingView| view.registrations().contains_key(&**member);
        if !is_in(after) {
            return None;
        }
        let now = Instant::now();
        let still_joins = last.and_then(|last| last.joins_until).filter(|until| now < *until);
        let joins_until = if is_in(before) { still_joins } else { Some(now + WINDOW) };
        let view = if joins_until.is_some() {
            // The first ring of a process follows on an empty one.
            let known = if is_in(before) { before } else { after };
            let mut others = known.registrations().clone();
            others.remove(&**member);
            Arc::new(RingView::new(known.revision(), member, placement, others, known.peers()))
        } else {
            before.clone()
        };
        let sources = sources(&view, after, member);
        Some(Self { view, joins_until, sources, until: now + WINDOW })
    }

    /// The members whose keys this one has gained, the largest part first.
    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Name of the other member that owned a key before.
    pub(super) fn placed(&self, group: &str, key: &[u8]) -> Option<&str> {
        Some(&**self.view.placed_peer(group, key)?.name())
    }

    /// The previous owner of a key that this member owns now, if another one was it, answers, and
    /// may still have something for this member.
    pub(super) fn owner(&self, group: &str, key: &[u8]) -> Option<&Arc<Peer>> {
        let peer = self.view.placed_peer(group, key).filter(|peer| peer.is_up())?;
        let source = self.sources.iter().find(|source| Arc::ptr_eq(&source.peer, peer))?;
        (!source.is_done.load(Ordering::Relaxed)).then_some(peer)
    }
}

fn sources(before: &RingView, after: &RingView, member: &str) -> Vec<Source> {
    let shares = after.ring().shares();
    let own = shares.iter().find(|(m, _)| m.name == member).map_or(0.0, |(_, share)| *share);
    let gained = diff(before.ring(), after.ring()).moves.into_iter();
    let gained = gained.filter(|part| part.to.as_deref() == Some(member) && own > 0.0);
    gained
        .filter_map(|part| {
            let peer = before.peer(&part.from?)?.clone();
            Some(Source { peer, share: (part.share / own).min(1.0), is_done: Arc::default() })
        })
        .collect()
}
