//! Rendezvous hashing over a table of slots.
//!
//! A key maps to a slot. For each slot, every member draws a pseudo-random number, and the member
//! with the highest score owns the slot (Thaler and Ravishankar, "Using Name-Based Mappings to
//! Increase Hit Rates", IEEE/ACM ToN 6(1), 1998). The owners are computed once per set of members,
//! so a lookup is one hash and one memory access regardless of the number of members.
//!
//! A member's draws depend only on its own name. A member that joins takes exactly the slots that
//! it wins, a member that leaves returns exactly those, and nothing else moves.

use crate::hash;
use crate::member::Member;

/// Owner of each slot, as an index into the ring's members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slots {
    owners: Box<[u16]>,
}

/// Members of equal weight. Among them the highest draw has the highest score, so one logarithm per
/// class and slot is enough, and none if all weights are equal.
struct Class {
    weight: u32,
    /// Index and hash of the name, sorted by index.
    members: Vec<(u16, u64)>,
}

impl Slots {
    /// Builds the table. `members` is sorted by name, and at least one member has a weight.
    pub(crate) fn new(slots: u32, members: &[Member]) -> Slots {
        let classes = classes(members);
        Slots { owners: (0..u64::from(slots)).map(|slot| winner(&classes, slot)).collect() }
    }

    pub(crate) fn owner(&self, key_hash: u64) -> usize {
        usize::from(self.owners[self.slot(key_hash)])
    }

    /// Maps a hash to a slot by multiplication, which has no modulo bias.
    pub(crate) fn slot(&self, key_hash: u64) -> usize {
        let scaled = (u128::from(key_hash) * self.owners.len() as u128) >> 64;
        usize::try_from(scaled).expect("below the number of slots")
    }

    pub(crate) fn owners(&self) -> &[u16] {
        &self.owners
    }
}

/// Members by descending score for one slot, without those of weight 0.
pub(crate) fn ranked(members: &[Member], slot: usize) -> Vec<usize> {
    let weighted = members.iter().enumerate().filter(|(_, member)| member.weight > 0);
    let mut scored: Vec<(f64, u64, usize)> = weighted
        .map(|(index, member)| {
            let draw = hash::draw(hash::name(&member.name), slot as u64);
            (hash::score(draw, member.weight), draw, index)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    scored.into_iter().map(|(_, _, index)| index).collect()
}

fn classes(members: &[Member]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for (index, member) in members.iter().enumerate().filter(|(_, member)| member.weight > 0) {
        let index = u16::try_from(index).expect("a ring takes at most 65,535 members");
        let entry = (index, hash::name(&member.name));
        match classes.iter_mut().find(|class| class.weight == member.weight) {
            Some(class) => class.members.push(entry),
            None => classes.push(Class { weight: member.weight, members: vec![entry] }),
        }
    }
    classes.sort_by_key(|class| class.weight);
    classes
}

fn winner(classes: &[Class], slot: u64) -> u16 {
    let best_of = |class: &Class| {
        let draws = class.members.iter().map(|&(index, name)| (hash::draw(name, slot), index));
        // Of equal draws, the first name wins.
        draws.reduce(|best, next| if next.0 > best.0 { next } else { best })
    };
    if let [only] = classes {
        return best_of(only).expect("a class has members").1;
    }
    let scored = classes.iter().filter_map(|class| {
        best_of(class).map(|(draw, index)| (hash::score(draw, class.weight), draw, index))
    });
    let best = scored.reduce(|best, next| {
        let order = next.0.total_cmp(&best.0).then(next.1.cmp(&best.1)).then(best.2.cmp(&next.2));
        if order.is_gt() { next } else { best }
    });
    best.expect("some member has a weight").2
}
