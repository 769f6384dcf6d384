//! The interface between a shard and its eviction policy, and the policies by name. A policy orders
//! slots and selects victims. It never frees a slot, accesses a key or reads a clock.
//!
//! To add a policy, add a file under `policy/` and a variant with its lines in [`PolicyKind`]. The
//! shared test suite runs over [`PolicyKind::ALL`].

mod arc;
mod fifo;
mod ghost;
mod lfu;
mod line;
mod lru;
mod lru2;
mod recent;
mod s3fifo;
mod segments;
mod sieve;
mod sketch;
mod tinylfu;
mod trials;

pub(crate) use lru::Lru;

use crate::slab::{Slab, Slot};

/// An eviction policy. The names are those of a `CacheGroup`'s `spec.policy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PolicyKind {
    /// Least recently used.
    Lru,
    /// Least frequently used, with ageing.
    Lfu,
    /// First in, first out.
    Fifo,
    /// Least recent second-to-last use, with watermarks.
    Lru2,
    /// Adaptive balance of recency and frequency.
    Arc,
    /// A small queue for new entries in front of the main queue.
    S3Fifo,
    /// One queue with a hand that skips entries used since its last pass.
    Sieve,
    /// Admission by frequency or by recency, whichever suits the workload. The default.
    #[default]
    TinyLfu,
}

impl PolicyKind {
    /// All policies.
    pub const ALL: &[PolicyKind] = &[
        PolicyKind::Lru,
        PolicyKind::Lfu,
        PolicyKind::Fifo,
        PolicyKind::Lru2,
        PolicyKind::Arc,
        PolicyKind::S3Fifo,
        PolicyKind::Sieve,
        PolicyKind::TinyLfu,
    ];

    /// The name used in a `CacheGroup`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Lru => "Lru",
            PolicyKind::Lfu => "Lfu",
            PolicyKind::Fifo => "Fifo",
            PolicyKind::Lru2 => "Lru2",
            PolicyKind::Arc => "Arc",
            PolicyKind::S3Fifo => "S3Fifo",
            PolicyKind::Sieve => "Sieve",
            PolicyKind::TinyLfu => "TinyLfu",
        }
    }

    pub(crate) fn build(self, capacity_bytes: u64) -> Box<dyn Policy> {
        match self {
            PolicyKind::Lru => Box::new(Lru::default()),
            PolicyKind::Lfu => Box::new(lfu::Lfu::new(capacity_bytes)),
            PolicyKind::Fifo => Box::new(fifo::Fifo::default()),
            PolicyKind::Lru2 => Box::new(lru2::Lru2::new(capacity_bytes)),
            PolicyKind::Arc => Box::new(arc::Arc::new(capacity_bytes)),
            PolicyKind::S3Fifo => Box::new(s3fifo::S3Fifo::new(capacity_bytes)),
            PolicyKind::Sieve => Box::new(sieve::Sieve::new(capacity_bytes)),
            PolicyKind::TinyLfu => Box::new(tinylfu::TinyLfu::new(capacity_bytes)),
        }
    }
}

impl std::fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// No policy has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {name:?}")]
#[expect(missing_docs, reason = "the message says what the docs would")]
pub struct UnknownPolicy {
    pub name: String,
}

impl std::str::FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyKind, UnknownPolicy> {
        let found = PolicyKind::ALL.iter().find(|kind| kind.name() == name);
        found.copied().ok_or_else(|| UnknownPolicy { name: name.to_owned() })
    }
}

/// An eviction policy as a shard uses it. All calls happen under the shard's lock.
///
/// # Guarantees
/// The shard calls `insert` once for a slot, then `hit` and `reweigh` any number of times, and then
/// either calls `remove` or receives the slot from `evict`, after which the policy no longer knows
/// the slot. `weight` and `hash` of a slot change only together with a call of `reweigh`.
pub(crate) trait Policy: Send + std::fmt::Debug {
    /// Adds a slot. A policy that does not admit it may return it from the next `evict`.
    fn insert(&mut self, slab: &mut Slab, slot: Slot);

    /// Records a read of the slot's key.
    fn hit(&mut self, slab: &mut Slab, slot: Slot);

    /// Records that the slot's weight changed from `old` to the one in the slab.
    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32);

    /// Removes a slot that is not evicted for room.
    fn remove(&mut self, slab: &mut Slab, slot: Slot);

    /// Selects a victim and removes it; `None` only if the policy has no slot.
    fn evict(&mut self, slab: &mut Slab) -> Option<Slot>;

    /// Sets the bytes of slots that the shard allows from now on.
    fn set_capacity(&mut self, bytes: u64);

    /// Bytes of all slots of the policy.
    fn bytes(&self) -> u64;

    /// Bytes of the policy's own memory (ghosts, sketches), charged to the group in addition to the
    /// slots. A hit does not change it.
    fn overhead_bytes(&self) -> u64;

    /// All slots, the most valuable first.
    fn hottest_first(&self, slab: &Slab) -> Vec<Slot>;
}
