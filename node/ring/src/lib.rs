//! Placement: which member owns a key.
//!
//! A [`Ring`] is made from a [`Placement`] and a set of [`Member`]s and never changes; when the
//! members change, another is made. Every process that makes one from the same set, in whatever
//! order, gets the same answers on every machine: that is a wire contract, and `tests/golden`
//! guards it. A lookup takes one hash and one table access and allocates nothing.
//!
//! ```
//! use larder_ring::{Member, Placement, Ring, diff};
//!
//! let three = Ring::new(&Placement::default(), ["shop-0", "shop-1", "shop-2"].map(Member::new));
//! let owner = three.owner("students", b"Tom").expect("a ring with members");
//! println!("{} answers for Tom", owner.name);
//!
//! let four = Ring::new(&Placement::default(), (0..4).map(|n| Member::new(format!("shop-{n}"))));
//! assert!((diff(&three, &four).share - 0.25).abs() < 0.0125); // only what the newcomer takes
//! ```
//!
//! Members are known by name, their StatefulSet ordinal's: a restart changes the address and moves
//! no key. Whether a member is alive is not asked here.
//!
//! Start at [`Ring::new`]; the two algorithms are `rendezvous.rs` and `tokens.rs`, the arithmetic
//! below them `hash.rs`.

mod diff;
mod hash;
mod rendezvous;
mod tokens;

use std::cmp::Reverse;

pub use diff::{Diff, Move, diff};
pub use hash::HashKind;
use rendezvous::Slots;
use tokens::Tokens;

/// Slots of a rendezvous table unless said otherwise. With 50 members each wins 5,243 of them give
/// or take 1.4 %, which keeps a member's share within 5 % of its due by more than three standard
/// deviations; the table takes 512 KiB.
pub const DEFAULT_SLOTS: u32 = 1 << 18;

/// Weight of an ordinary member. Rendezvous looks at proportions only; on a ring a member of this
/// weight has exactly `virtual_nodes` tokens.
pub const NOMINAL_WEIGHT: u32 = 100;

/// How keys are placed. All members of a cluster, and its ring-aware clients, must agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// Weighted rendezvous hashing over a table of slots: even shares, the least movement.
    Rendezvous {
        /// Size of the table, at least 1; [`DEFAULT_SLOTS`] unless there is a reason.
        slots: u32,
    },
    /// Consistent hashing with virtual nodes.
    Ring {
        /// Tokens of a member of [`NOMINAL_WEIGHT`], at least 1.
        virtual_nodes: u32,
        /// Hash of keys and tokens.
        hash: HashKind,
    },
}

impl Default for Placement {
    fn default() -> Placement {
        Placement::Rendezvous { slots: DEFAULT_SLOTS }
    }
}

/// One member as placement sees it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Member {
    /// What it is known by, stable over restarts.
    pub name: String,
    /// Its part of the keys in proportion to the others'; 0 owns nothing.
    pub weight: u32,
    /// Failure zone, if known; copies of a key are spread over zones.
    pub zone: Option<String>,
}

impl Member {
    /// A member of nominal weight in no known zone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Member {
        Member { name: name.into(), weight: NOMINAL_WEIGHT, zone: None }
    }
}

/// Who owns what, for one set of members. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Ring {
    placement: Placement,
    /// By name, each once.
    members: Vec<Member>,
    pub(crate) table: Table,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// No member has a weight: nobody owns anything.
    Empty,
    Slots(Slots),
    Tokens(Tokens),
}

impl Ring {
    /// The ring of these members. Their order does not matter; of several with one name the
    /// heaviest counts. Takes some milliseconds: not for every request.
    ///
    /// # Panics
    /// With more than 65,535 members.
    #[must_use]
    pub fn new(placement: &Placement, members: impl IntoIterator<Item = Member>) -> Ring {
        let mut members: Vec<Member> = members.into_iter().collect();
        members.sort_by(|a, b| {
            (&a.name, Reverse(a.weight), &a.zone).cmp(&(&b.name, Reverse(b.weight), &b.zone))
        });
        members.dedup_by(|next, kept| next.name == kept.name);
        let table = match *placement {
            _ if members.iter().all(|member| member.weight == 0) => Table::Empty,
            Placement::Rendezvous { slots } => Table::Slots(Slots::new(slots.max(1), &members)),
            Placement::Ring { virtual_nodes, hash } => {
                Table::Tokens(Tokens::new(virtual_nodes.max(1), hash, &members))
            }
        };
        Ring { placement: *placement, members, table }
    }

    /// The member that owns a key; `None` only if no member has a weight.
    #[must_use]
    pub fn owner(&self, group: &str, key: &[u8]) -> Option<&Member> {
        self.owner_index(group, key).map(|index| &self.members[index])
    }

    /// Like [`Ring::owner`], as an index into [`Ring::members`].
    #[must_use]
    pub fn owner_index(&self, group: &str, key: &[u8]) -> Option<usize> {
        match &self.table {
            Table::Empty => None,
            Table::Slots(slots) => Some(slots.owner(hash::key(group, key))),
            Table::Tokens(tokens) => Some(tokens.owner(tokens.hash().key(group, key))),
        }
    }

    /// Up to `count` members for a key: its owner, then who would own it if those before were
    /// gone. With zones known, members of zones not yet chosen go first among those that follow.
    #[must_use]
    pub fn owners(&self, group: &str, key: &[u8], count: usize) -> Vec<&Member> {
        let mut ranked: Vec<&Member> = match &self.table {
            Table::Empty => Vec::new(),
            Table::Slots(slots) => {
                let slot = slots.slot(hash::key(group, key));
                rendezvous::ranked(&self.members, slot)
            }
            Table::Tokens(tokens) => tokens.walk(tokens.hash().key(group, key)),
        }
        .into_iter()
        .map(|index| &self.members[index])
        .collect();
        let mut chosen: Vec<&Member> = Vec::new();
        while chosen.len() < count && !ranked.is_empty() {
            let known = |zone: &Option<String>| chosen.iter().any(|member| member.zone == *zone);
            let elsewhere = ranked.iter().position(|member| !known(&member.zone));
            chosen.push(ranked.remove(elsewhere.unwrap_or(0)));
        }
        chosen
    }

    /// The members, by name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How keys are placed.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// True if nobody owns anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table == Table::Empty
    }

    /// Each member with its part of all keys, 0 to 1, by name.
    #[must_use]
    pub fn shares(&self) -> Vec<(&Member, f64)> {
        let mut shares = vec![0.0; self.members.len()];
        match &self.table {
            Table::Empty => {}
            Table::Slots(slots) => {
                let part = 1.0 / slots.owners().len() as f64;
                slots.owners().iter().for_each(|&owner| shares[usize::from(owner)] += part);
            }
            Table::Tokens(tokens) => {
                let mut done: u128 = 0;
                for (end, owner) in tokens.arcs() {
                    let next = u128::from(end) + 1;
                    shares[owner] += (next - done) as f64 / tokens.hash().places() as f64;
                    done = next;
                }
            }
        }
        self.members.iter().zip(shares).collect()
    }
}

/// Rings are equal if every key has the same owner, whatever the zones.
impl PartialEq for Ring {
    fn eq(&self, other: &Ring) -> bool {
        let names = |ring: &Ring| ring.members.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        self.placement == other.placement
            && self.table == other.table
            && names(self) == names(other)
    }
}
