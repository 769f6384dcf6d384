//! What this member offers to others: places of entries, and for whom. `hand_over` fills and reads
//! them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use larder_engine::Place;
use larder_proto::v1::TakeOverRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Entries in one offer, 48 MiB of places. The least valuable ones beyond are left out.
const MAX_PLACES: usize = 4 << 20;
/// Entries of one offer of replicas, which is made every few seconds. To rank the members for a key
/// takes about a microsecond.
const MAX_REPLICAS: usize = 1 << 15;

/// What this member hands over.
#[derive(Default)]
pub(super) struct Offers {
    pub(super) kept: Mutex<VecDeque<Arc<Offer>>>,
    /// Held while an offer is made, so that members that ask at the same time share it.
    pub(super) making: tokio::sync::Mutex<()>,
    pub(super) last_id: AtomicU64,
    /// Bytes handed over.
    pub(super) bytes: AtomicU64,
}

/// As what the other member holds the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It owns the keys.
    Owner,
    /// It is the next in the ring's order after this member, which owns them.
    StandIn,
}

/// What each member of one ring is to take over.
pub(super) struct Offer {
    pub(super) id: u64,
    pub(super) ring_digest: u64,
    pub(super) role: Role,
    pub(super) made_ms: u64,
    /// What is loaded after it was made has a larger version.
    pub(super) version: u64,
    pub(super) groups: Vec<Arc<str>>,
    pub(super) by_member: BTreeMap<String, Vec<OfferedPlace>>,
    /// Members that have read all of it.
    pub(super) finished: Mutex<BTreeSet<String>>,
    pub(super) asked: Mutex<Instant>,
}

#[derive(Clone, Copy)]
pub(super) struct OfferedPlace {
    /// Index into the offer's groups.
    pub(super) group: u16,
    pub(super) place: Place,
}

impl Role {
    pub(super) fn of(request: &TakeOverRequest) -> Self {
        if request.as_stand_in { Self::StandIn } else { Self::Owner }
    }

    pub(super) fn max_places(self) -> usize {
        match self {
            Self::Owner => MAX_PLACES,
            Self::StandIn => MAX_REPLICAS,
        }
    }
}

/// The first of each list, then the second of each, and so on.
pub(super) fn interleaved<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut all = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    while !lists.is_empty() {
        lists.retain_mut(|list| {
            let next = list.next();
            let is_some = next.is_some();
            all.extend(next);
            is_some
        });
    }
    all
}
