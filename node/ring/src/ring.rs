//! The ring of one set of members: looks up owners in the table of the chosen algorithm.

use std::cmp::Reverse;

use crate::hash;
use crate::member::Member;
use crate::placement::Placement;
use crate::rendezvous::{self, Slots};
use crate::tokens::Tokens;

/// The owner of every key for one set of members. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Ring {
    placement: Placement,
    /// Sorted by name, without duplicates.
    members: Vec<Member>,
    pub(crate) table: Table,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// No member has a weight, so no key has an owner.
    Empty,
    Slots(Slots),
    Tokens(Tokens),
}

impl Ring {
    /// Builds the ring of `members`, whose order does not matter. Of several members with one name,
    /// the heaviest is kept. Takes some milliseconds, so build it once per set and not per request.
    ///
    /// # Panics
    /// If there are more than 65,535 members.
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

    /// The owner of a key; `None` only if no member has a weight.
    #[must_use]
    pub fn owner(&self, group: &str, key: &[u8]) -> Option<&Member> {
        self.owner_index(group, key).map(|index| &self.members[index])
    }

    /// Index into [`Ring::members`] of the owner of a key.
    #[must_use]
    pub fn owner_index(&self, group: &str, key: &[u8]) -> Option<usize> {
        match &self.table {
            Table::Empty => None,
            Table::Slots(slots) => Some(slots.owner(hash::key(group, key))),
            Table::Tokens(tokens) => Some(tokens.owner(tokens.hash().key(group, key))),
        }
    }

    /// Up to `count` members for a key: first the owner, then each time the member that would own
    /// the key without the members before it. If zones are known, members of further zones come
    /// before members of zones that are already represented.
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
            let used = |zone: &Option<String>| chosen.iter().any(|member| member.zone == *zone);
            let in_new_zone = ranked.iter().position(|member| !used(&member.zone));
            chosen.push(ranked.remove(in_new_zone.unwrap_or(0)));
        }
        chosen
    }

    /// The members, sorted by name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The placement algorithm.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// True if no key has an owner.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table == Table::Empty
    }

    /// Each member and its share of all keys (0 to 1), sorted by name.
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
                    shares[owner] += (next - done) as f64 / tokens.hash().positions() as f64;
                    done = next;
                }
            }
        }
        self.members.iter().zip(shares).collect()
    }
}

/// Rings are equal if every key has the same owner. Zones are ignored.
impl PartialEq for Ring {
    fn eq(&self, other: &Ring) -> bool {
        let names = |ring: &Ring| ring.members.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        self.placement == other.placement
            && self.table == other.table
            && names(self) == names(other)
    }
}
