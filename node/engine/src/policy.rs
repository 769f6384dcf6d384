//! Owns the seam between a shard and its eviction policy, and the table of policies by name. A
//! policy orders slots and names victims; it never frees a slot, looks at keys or reads a clock.
//!
//! To add one: a file under `policy/`, a variant and a line in [`PolicyKind`], and nothing else;
//! the shared test suite runs over [`PolicyKind::ALL`].

mod lru;

pub(crate) use lru::Lru;

use crate::slab::{Slab, Slot};

/// An eviction policy, chosen by name. The names are those of a `CacheGroup`'s `spec.policy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PolicyKind {
    /// Least recently used.
    #[default]
    Lru,
}

impl PolicyKind {
    /// Every policy there is.
    pub const ALL: &[PolicyKind] = &[PolicyKind::Lru];

    /// The name as written in a `CacheGroup`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Lru => "Lru",
        }
    }

    pub(crate) fn build(self, capacity_bytes: u64) -> Box<dyn Policy> {
        match self {
            PolicyKind::Lru => Box::new(Lru::new(capacity_bytes)),
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
    fn overhead_bytes(&self) -> u64;

    /// All slots, those worth most first.
    fn hottest_first(&self, slab: &Slab) -> Vec<Slot>;
}
