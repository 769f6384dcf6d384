//! Owns the seam between a shard and its eviction policy, and the table of policies by name. A
//! policy orders slots and names victims; it never frees a slot, looks at keys or reads a clock.
//!
//! To add one: a file under `policy/`, a variant and a line in [`PolicyKind`], and nothing else;
//! the shared test suite runs over [`PolicyKind::ALL`].

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

/// An eviction policy, chosen by name. The names are those of a `CacheGroup`'s `spec.policy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PolicyKind {
    /// Least recently used.
    Lru,
    /// Least frequently used, with ageing.
    Lfu,
    /// First in, first out.
    Fifo,
    /// By the second-last use, with watermarks.
    Lru2,
    /// Recency and frequency with a border that moves by itself.
    Arc,
    /// A small queue for newcomers before the main one.
    S3Fifo,
    /// One queue and a hand that passes what was used.
    Sieve,
    /// Admission by frequency or recent use, whichever serves the traffic. The default.
    #[default]
    TinyLfu,
}

impl PolicyKind {
    /// Every policy there is.
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

    /// The name as written in a `CacheGroup`.
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

/// A name that no policy has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {name:?}")]
pub struct UnknownPolicy {
    /// What was asked for.
    pub name: String,
}

impl std::str::FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyKind, UnknownPolicy> {
        let found = PolicyKind::ALL.iter().find(|kind| kind.name() == name);
        found.copied().ok_or_else(|| UnknownPolicy { name: name.to_owned() })
    }
}

/// What a shard asks of a policy. All calls happen under the shard's lock.
///
/// # Guarantees
/// The shard calls `insert` once for a slot, then `hit` and `reweigh` any number of times, then
/// either `remove` (for a reason of its own) or receives it from `evict`; after that the policy
/// does not know the slot. `weight` and `hash` of a slot change only around `reweigh`.
pub(crate) trait Policy: Send + std::fmt::Debug {
    /// A new slot. It may be named by the next `evict` (a policy that does not admit it).
    fn insert(&mut self, slab: &mut Slab, slot: Slot);

    /// The slot's key was asked for.
    fn hit(&mut self, slab: &mut Slab, slot: Slot);

    /// The slot's weight changed from `old` to what the slab says.
    fn reweigh(&mut self, slab: &mut Slab, slot: Slot, old: u32);

    /// The slot leaves for another reason than room: forget it.
    fn remove(&mut self, slab: &mut Slab, slot: Slot);

    /// Chooses a victim and forgets it; `None` only if the policy holds no slot.
    fn evict(&mut self, slab: &mut Slab) -> Option<Slot>;

    /// How many bytes of slots the shard will let it hold from now on.
    fn set_capacity(&mut self, bytes: u64);

    /// Bytes of all slots that it holds.
    fn bytes(&self) -> u64;

    /// Bytes of its own memory beyond the slots (ghosts, sketches), charged to the group.
    /// A hit does not change it.
    fn overhead_bytes(&self) -> u64;

    /// All slots, those worth most first.
    fn hottest_first(&self, slab: &Slab) -> Vec<Slot>;
}
