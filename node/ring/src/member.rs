//! A member of the ring: name, weight, zone.

/// Weight of an ordinary member. Rendezvous hashing uses only the proportions between weights; on a
/// ring, a member of this weight has exactly `virtual_nodes` tokens.
pub const NOMINAL_WEIGHT: u32 = 100;

/// A member and the properties that placement uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// Identity of the member; unchanged by restarts.
    pub name: String,
    /// Share of the keys relative to the other members; 0 owns nothing.
    pub weight: u32,
    /// Failure zone, if known. Replicas of a key are spread over zones.
    pub zone: Option<String>,
}

impl Member {
    /// A member of nominal weight without a known zone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Member {
        Member { name: name.into(), weight: NOMINAL_WEIGHT, zone: None }
    }
}
