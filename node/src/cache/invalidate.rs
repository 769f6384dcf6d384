//! Invalidation: at the owner first, then at every member that may hold a copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::error::Error;
use super::shared::Cache;
use crate::peers::{Peer, RingView};

/// How many members an invalidation reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Members that confirmed, this one included.
    pub reached: u32,
    /// Members in the ring when the invalidation started.
    pub total: u32,
}

impl Cache {
    /// Drops keys of a group (none: the whole group) at the owner and at every member with a copy.
    /// Returns when every member has confirmed or timed out. A member that was not reached drops
    /// the group before it is asked for a key again.
    ///
    /// # Errors
    /// An unknown group, an invalid key, or too many keys.
    ///
    /// # Cancel safety
    /// If cancelled early, some members have not dropped the keys. Call it again.
    pub async fn invalidate(&self, group: &str, keys: Vec<Bytes>) -> Result<Invalidated, Error> {
        let max = self.0.limits.max_batch_keys;
        if keys.len() > max {
            return Err(Error::TooManyKeys { keys: keys.len(), max });
        }
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let group = self.group(group)?;
        let view = self.0.peers.view();
        let peers = view.peers();

        // The race that this order prevents: 1. this member drops its copy; 2. a reader here asks
        // the owner, which still has the old value, and stores a new copy; 3. the owner drops. So
        // owners drop first, and copies after them.
        let owners = owners(&view, &group.name, &keys);
        group.drop_keys(&keys);
        let reached_first = drop_at(&owners, &group.name, &keys).await;
        let others = match owners.as_slice() {
            [one] => peers.iter().filter(|p| p.name() != one.name()).cloned().collect(),
            // One owner may have copied from another in the meantime: all drop again.
            _ => peers.clone(),
        };
        let reached_last = drop_at(&others, &group.name, &keys).await;
        let reached = if owners.len() == 1 { reached_first } else { 0 } + reached_last;
        group.drop_keys(&keys);
        let total = u32::try_from(peers.len()).unwrap_or(u32::MAX).saturating_add(1);
        Ok(Invalidated { reached: reached + 1, total })
    }

    /// Drops keys that were invalidated at another member. An unknown group holds nothing.
    pub fn drop_copies(&self, group: &str, keys: &[Bytes]) {
        if let Some(group) = self.0.groups.load().get(group) {
            group.drop_keys(keys);
        }
    }
}

/// Drops keys at all `peers` at once. Returns how many confirmed.
async fn drop_at(peers: &[Arc<Peer>], group: &str, keys: &[Bytes]) -> u32 {
    let calls = peers.iter().map(|peer| peer.drop_keys(group, keys));
    let confirmed = join_all(calls).await;
    confirmed.into_iter().map(u32::from).sum()
}

/// The peers that own any of the keys; for a whole group, all of them.
fn owners(view: &RingView, group: &str, keys: &[Bytes]) -> Vec<Arc<Peer>> {
    if keys.is_empty() {
        return view.peers();
    }
    let names: BTreeSet<&str> = keys.iter().map(|key| view.placed(group, key)).collect();
    view.peers().into_iter().filter(|peer| names.contains(&**peer.name())).collect()
}
