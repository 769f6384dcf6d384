//! What the peers of one member share.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::deps::PeerDeps;
use super::journal::Journal;
use super::stamp::RingStamp;

/// Called with a member's name and whether it answers: once for each change, and regularly for
/// departed members.
pub(crate) type HealthListener = Box<dyn Fn(&str, bool) + Send + Sync>;

/// True if a member may exist that this one does not know of.
pub(crate) type MayLackMembers = Box<dyn Fn() -> bool + Send + Sync>;

pub(super) struct PeerContext {
    pub(super) deps: PeerDeps,
    pub(super) journal: Journal,
    pub(super) ejections: Mutex<Ejections>,
    /// Set at most once, when the membership starts.
    pub(super) health_listener: OnceLock<HealthListener>,
    /// As `health_listener`. Without it the ring has every member.
    pub(super) may_lack_members: OnceLock<MayLackMembers>,
    ring: Mutex<RingStamp>,
}

/// Bounds how many peers timeouts may eject at the same time: when most peers seem silent, the
/// fault is likely this member's.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    peers: usize,
    by_timeout: BTreeSet<Arc<str>>,
}

impl PeerContext {
    pub(super) fn new(deps: PeerDeps) -> Self {
        Self {
            journal: Journal::new(&deps),
            ejections: Mutex::default(),
            health_listener: OnceLock::new(),
            may_lack_members: OnceLock::new(),
            ring: Mutex::default(),
            deps,
        }
    }

    /// The ring in force.
    pub(super) fn ring(&self) -> RingStamp {
        *self.ring.lock()
    }

    pub(super) fn set_ring(&self, ring: RingStamp) {
        *self.ring.lock() = ring;
    }
}

impl Ejections {
    /// True if timeouts may eject one more: never more than half of the peers, but at least one.
    pub(super) fn has_room(&self) -> bool {
        self.by_timeout.len() < (self.peers / 2).max(1)
    }

    pub(super) fn record(&mut self, name: &Arc<str>, by_timeout: bool) {
        if by_timeout {
            self.by_timeout.insert(name.clone());
        } else {
            self.by_timeout.remove(name);
        }
    }

    /// Adopts the peers of a ring. `is_kept` is false for a peer that left or started anew.
    pub(super) fn set_peers(&mut self, peers: usize, is_kept: impl Fn(&str) -> bool) {
        self.peers = peers;
        self.by_timeout.retain(|name| is_kept(name));
    }
}
