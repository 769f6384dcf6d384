//! Invalidation: here, then at every other member, in two passes.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{join, join_all};

use super::error::Error;
use super::group::Group;
use super::shared::Cache;
use crate::origin::check_tags;
use crate::peers::{Appended, Invalidation, Peer};

/// What an invalidation drops. Without keys and tags: the whole group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// These keys, whether or not they have a value.
    pub keys: Vec<Bytes>,
    /// Every value with one of these tags. A key that is absent at the origin has no tags.
    pub tags: Vec<Bytes>,
}

impl From<Vec<Bytes>> for Scope {
    fn from(keys: Vec<Bytes>) -> Self {
        Self { keys, tags: Vec::new() }
    }
}

/// How many members an invalidation reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Members that confirmed. This one is among them unless its disk did not take the invalidation
    /// in time.
    pub reached: u32,
    /// Members in the ring when the invalidation started, and those that other members report but
    /// this one does not know yet. One more than is known if this member was out of the registry's
    /// reach for longer than its lease, because a member may have started meanwhile.
    pub total: u32,
}

impl Cache {
    /// Drops a part of a group, or all of it, at every member. Returns when every member has
    /// confirmed or timed out. A member that did not confirm is bypassed here until it has.
    ///
    /// # Errors
    /// An unknown group, an invalid key or tag, or too many of them.
    ///
    /// # Cancel safety
    /// If cancelled early, every member still drops the keys. But copies that were made in the
    /// meantime may remain for their own TTL, and a member that has not confirmed is not bypassed.
    /// Call it again.
    pub async fn invalidate(
        &self,
        group: &str,
        scope: impl Into<Scope>,
    ) -> Result<Invalidated, Error> {
        let Scope { keys, tags } = scope.into();
        let max = self.0.limits.max_batch_keys;
        if keys.len() > max {
            return Err(Error::TooManyKeys { keys: keys.len(), max });
        }
        keys.iter().try_for_each(|key| self.check_key(key))?;
        check_tags(&tags)?;
        let group = self.group(group)?;
        // Copied, because the log must not keep the request's whole receive buffer alive.
        let copied =
            |texts: &[Bytes]| texts.iter().map(|text| Bytes::copy_from_slice(text)).collect();
        let drop_all = Invalidation {
            group: Some(group.name.clone()),
            keys: copied(&keys),
            tags: copied(&tags),
            copies_only: false,
        };
        let drop_copies = Invalidation { copies_only: true, ..drop_all.clone() };
        let view = self.0.peers.view().clone();
        let peers = view.peers();

        // The race that the second pass ends: 1. this member drops its copy; 2. a reader here asks
        // the owner or its stand-in, which still has the old value, and stores a new copy; 3. the
        // owner drops. Once all have dropped, only copies can be old.
        let Appended { number: first, record } =
            self.0.peers.append(drop_all, |what| group.drop_invalidated(what));
        let (confirmed, recorded) =
            join(confirmations(&peers, first), self.0.peers.recorded(record)).await;
        let (current, behind): (Vec<_>, Vec<_>) =
            peers.iter().zip(confirmed).partition(|(_, confirmed)| *confirmed);
        behind.iter().for_each(|(peer, _)| peer.hold_until_confirmed(first));
        let second = self.0.peers.append(drop_copies, |what| group.drop_invalidated(what)).number;
        let confirmed = confirmations(current.iter().map(|(peer, _)| *peer), second).await;

        let reached = confirmed.iter().filter(|confirmed| **confirmed).count();
        self.0.peers.count_missed((peers.len() - reached) as u64);
        let total = peers.len() + self.0.peers.unknown_members(&view);
        // A member that may forget the invalidation in a restart has not confirmed it.
        let reached = reached + usize::from(recorded);
        let count = |members| u32::try_from(members).unwrap_or(u32::MAX);
        Ok(Invalidated { reached: count(reached), total: count(total.saturating_add(1)) })
    }

    /// Drops what is invalidated at other members from now on.
    pub(super) fn follow_invalidations(&self) {
        // Weak, because the cache owns the peers.
        let cache = Arc::downgrade(&self.0);
        self.0.peers.set_applier(Box::new(move |what| {
            if let Some(cache) = cache.upgrade() {
                Self(cache).apply_here(what);
            }
        }));
    }

    /// Drops what an invalidation names, at this member only. An unknown group holds nothing.
    pub(crate) fn apply_here(&self, what: &Invalidation) {
        let groups = self.0.groups.load();
        match &what.group {
            Some(name) => {
                groups.get(name).into_iter().for_each(|group| group.drop_invalidated(what));
            }
            None => groups.values().for_each(|group| group.drop_invalidated(what)),
        }
    }
}

impl Group {
    /// Drops every entry here and detaches all flights.
    pub(super) fn drop_all(&self) {
        self.drop_invalidated(&Invalidation::whole(Some(self.name.clone())));
    }

    /// Drops entries and remembered errors here, and detaches flights that may bring them back.
    fn drop_invalidated(&self, what: &Invalidation) {
        let Invalidation { keys, tags, copies_only, .. } = what;
        let whole = keys.is_empty() && tags.is_empty();
        let main = (!copies_only).then_some(&self.main);
        let stores = || main.iter().copied().chain(&self.hot);
        if whole {
            stores().for_each(larder_engine::Group::clear);
        }
        for key in &**keys {
            stores().for_each(|store| _ = store.invalidate(key));
        }
        for tag in &**tags {
            stores().for_each(|store| store.invalidate_tag(tag));
        }
        // The stores first: a reader that still joins an old flight did so before the invalidation
        // returned.
        let flights = [(!copies_only).then_some(&self.loads), Some(&self.forwards)];
        for flights in flights.into_iter().flatten() {
            // The tags of a value are not known before it arrives.
            if whole || !tags.is_empty() {
                flights.forget_all();
            }
            keys.iter().for_each(|key| flights.forget(key));
        }
        if whole {
            self.failed_keys.forget_all();
        }
        keys.iter().for_each(|key| self.failed_keys.forget(key));
    }
}

/// Waits until each peer has confirmed an invalidation or is given up.
async fn confirmations<'p>(
    peers: impl IntoIterator<Item = &'p Arc<Peer>>,
    number: u64,
) -> Vec<bool> {
    join_all(peers.into_iter().map(|peer| peer.confirms(number))).await
}
