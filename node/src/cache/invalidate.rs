//! Invalidation: from the owner first, then from every copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::{Cache, Error};
use crate::peers::{Peer, View};

/// How far an invalidation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Members that confirmed, this one included.
    pub reached: u32,
    /// Members in the ring when it began.
    pub total: u32,
}

impl Cache {
    /// Drops keys of a group (none: the whole group) from the owner and from every copy. Returns
    /// when every member confirmed or its time was over; a member that was not reached is told
    /// again before it is asked for a key.
    ///
    /// # Errors
    /// An unknown group, or keys that cannot be.
    ///
    /// # Cancel safety
    /// Cancelled early, some members have not dropped the keys; call again.
    pub async fn invalidate(&self, group: &str, keys: Vec<Bytes>) -> Result<Invalidated, Error> {
        let max = self.0.limits.max_batch_keys;
        if keys.len() > max {
            return Err(Error::TooManyKeys { keys: keys.len(), max });
        }
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let found = self.0.groups.load().get(group).cloned();
        let group = found.ok_or_else(|| self.unknown(group))?;
        let view = self.0.peers.view();
        let peers = view.peers();

        // 1. we drop our copy; 2. a reader here asks the owner, who still has the old value, and
        // keeps a new copy of it; 3. the owner drops. So owners go first, and copies after them.
        let owners = owners(&view, &group.name, &keys);
        group.drop_keys(&keys);
        let reached_first = self.tell(&owners, &group.name, &keys).await;
        let rest = match owners.as_slice() {
            [one] => peers.iter().filter(|p| p.name() != one.name()).cloned().collect(),
            // Each owner may have copied from another one meanwhile: all of them again.
            _ => peers.clone(),
        };
        let reached_last = self.tell(&rest, &group.name, &keys).await;
        let reached = if owners.len() == 1 { reached_first } else { 0 } + reached_last;
        group.drop_keys(&keys);
        let total = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        Ok(Invalidated { reached: reached + 1, total })
    }

    /// Drops what was invalidated at another member; an unknown group holds nothing.
    pub fn drop_copies(&self, group: &str, keys: &[Bytes]) {
        if let Some(group) = self.0.groups.load().get(group) {
            group.drop_keys(keys);
        }
    }

    /// Tells peers to drop keys, all at once, and counts those that confirmed.
    async fn tell(&self, peers: &[Arc<Peer>], group: &str, keys: &[Bytes]) -> u32 {
        let calls = peers.iter().map(|peer| peer.drop_keys(group, keys));
        let confirmed = join_all(calls).await;
        confirmed.into_iter().map(u32::from).sum()
    }
}

/// The peers that own any of the keys; of a whole group, all of them.
fn owners(view: &View, group: &str, keys: &[Bytes]) -> Vec<Arc<Peer>> {
    if keys.is_empty() {
        return view.peers();
    }
    let names: BTreeSet<&str> = keys.iter().map(|key| view.placed(group, key)).collect();
    view.peers().into_iter().filter(|peer| names.contains(&**peer.name())).collect()
}
