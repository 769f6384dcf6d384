//! Keeps replicas of the hottest entries of other members: of the keys for which this member
//! answers when their owner does not. So a member that dies leaves its hottest keys warm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pull::{End, Pull};
use crate::cache::{Cache, Role};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(5);
/// One round in this many reads everything again: entries that have become hot since, and those
/// that were evicted here. The others bring what was loaded since the round before.
const FULL_ROUND: u32 = 12;

/// The part of the usual memory that a round may fill if none is free.
const WANTED_IF_FULL: u64 = 8;

/// Pulls replicas until the member stops. They may fill `percent` of the memory for entries.
pub(crate) async fn replicate(cache: Cache, percent: u8, stopping: CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = rounds(cache, percent), if percent > 0 => {}
        else => {}
    }
}

/// What the replicas of one round may fill. In a full memory they take the place of other entries,
/// so they are only the hottest.
fn room(wanted: u64, free: u64) -> u64 {
    wanted.min(free.max(wanted / WANTED_IF_FULL))
}

async fn rounds(cache: Cache, percent: u8) {
    // What the replicas of each member include.
    let mut versions: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for round in 0_u32.. {
        sleep(INTERVAL).await;
        let peers = cache.peers().view().peers();
        if round % FULL_ROUND == 0 {
            versions.clear();
        }
        versions.retain(|name, _| peers.iter().any(|peer| peer.name() == name));
        let wanted = cache.main_capacity_bytes() / 100 * u64::from(percent);
        let room = room(wanted, cache.main_free_bytes()) / (peers.len() as u64).max(1);
        for peer in peers.iter().filter(|peer| peer.is_up()) {
            let after = versions.get(peer.name()).copied().unwrap_or(0);
            let mut pull = Pull::new(&cache, peer, Role::StandIn, room).after_version(after);
            let end = pull.run().await;
            if end != End::GivenUp {
                versions.insert(peer.name().clone(), pull.version());
            }
            let (entries, peer) = (pull.entries(), peer.name());
            tracing::debug!(%peer, ?end, entries, after, "replicas");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_fill_free_memory_and_push_out_little() {
        assert_eq!(room(800, 10_000), 800);
        assert_eq!(room(800, 300), 300);
        assert_eq!(room(800, 0), 100);
    }
}
