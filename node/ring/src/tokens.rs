//! Owns consistent hashing: each member has many tokens on a circle, and a key belongs to the first
//! token at or after its own place (Karger et al., "Consistent Hashing and Random Trees", STOC
//! 1997). With CRC-32 it is golang/groupcache's ring, token for token.

use crate::hash::HashKind;
use crate::{Member, NOMINAL_WEIGHT};

/// A member never has more tokens than this, whatever its weight.
const MAX_TOKENS: u64 = 1 << 16;

/// Tokens in order of their places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tokens {
    hash: HashKind,
    /// Place and member index; no two at one place.
    tokens: Box<[(u64, u16)]>,
}

impl Tokens {
    pub(crate) fn new(virtual_nodes: u32, hash: HashKind, members: &[Member]) -> Tokens {
        let mut tokens = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let index = u16::try_from(index).expect("a ring takes at most 65,535 members");
            let count = token_count(virtual_nodes, member.weight);
            tokens.extend((0..count).map(|token| (hash.token(&member.name, token), index)));
        }
        // Members are sorted by name: of two tokens at one place the first name's stays.
        tokens.sort_unstable();
        tokens.dedup_by_key(|&mut (place, _)| place);
        Tokens { hash, tokens: tokens.into() }
    }

    pub(crate) fn hash(&self) -> HashKind {
        self.hash
    }

    pub(crate) fn owner(&self, place: u64) -> usize {
        usize::from(self.tokens[self.successor(place)].1)
    }

    /// Members in the order in which the circle is walked from a place, each once.
    pub(crate) fn walk(&self, place: u64) -> Vec<usize> {
        let mut seen = Vec::new();
        let (before, from) = self.tokens.split_at(self.successor(place));
        for &(_, member) in from.iter().chain(before) {
            if !seen.contains(&usize::from(member)) {
                seen.push(usize::from(member));
            }
        }
        seen
    }

    /// Arcs as (last place, owner), which together cover every place once.
    pub(crate) fn arcs(&self) -> impl Iterator<Item = (u64, usize)> {
        let last = u64::try_from(self.hash.places() - 1).expect("places fit 64 bits");
        let first = self.tokens.first().map(|&(_, owner)| (last, usize::from(owner)));
        let wraps = self.tokens.last().is_some_and(|&(place, _)| place < last);
        let arcs = self.tokens.iter().map(|&(place, owner)| (place, usize::from(owner)));
        arcs.chain(first.filter(|_| wraps))
    }

    fn successor(&self, place: u64) -> usize {
        let index = self.tokens.partition_point(|&(token, _)| token < place);
        if index == self.tokens.len() { 0 } else { index }
    }
}

/// From the member's own weight alone: a count that depended on the others' would move their keys
/// when one joins.
fn token_count(virtual_nodes: u32, weight: u32) -> u32 {
    if weight == 0 {
        return 0;
    }
    let exact = u64::from(virtual_nodes) * u64::from(weight);
    let rounded = (exact + u64::from(NOMINAL_WEIGHT) / 2) / u64::from(NOMINAL_WEIGHT);
    u32::try_from(rounded.clamp(1, MAX_TOKENS)).expect("clamped")
}
