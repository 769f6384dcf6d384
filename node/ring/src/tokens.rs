//! Consistent hashing: each member has many tokens on a circle, and the first token at or after a
//! key's position owns the key (Karger et al., "Consistent Hashing and Random Trees", STOC 1997).
//! With CRC-32, the tokens are the same as golang/groupcache's.

use crate::hash::HashKind;
use crate::member::{Member, NOMINAL_WEIGHT};

/// Maximum number of tokens of one member, regardless of its weight.
const MAX_TOKENS: u64 = 1 << 16;

/// All tokens, sorted by position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tokens {
    hash: HashKind,
    /// Position and member index. Positions are unique.
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
        // Members are sorted by name, so of two tokens at one position the first name's is kept.
        tokens.sort_unstable();
        tokens.dedup_by_key(|&mut (position, _)| position);
        Tokens { hash, tokens: tokens.into() }
    }

    pub(crate) fn hash(&self) -> HashKind {
        self.hash
    }

    pub(crate) fn owner(&self, position: u64) -> usize {
        usize::from(self.tokens[self.successor(position)].1)
    }

    /// Members in the order of their first tokens from a position on.
    pub(crate) fn walk(&self, position: u64) -> Vec<usize> {
        let mut seen = Vec::new();
        let (before, from) = self.tokens.split_at(self.successor(position));
        for &(_, member) in from.iter().chain(before) {
            if !seen.contains(&usize::from(member)) {
                seen.push(usize::from(member));
            }
        }
        seen
    }

    /// Arcs as (last position, owner). Together they cover every position exactly once.
    pub(crate) fn arcs(&self) -> impl Iterator<Item = (u64, usize)> {
        let last = u64::try_from(self.hash.positions() - 1).expect("positions fit 64 bits");
        let first = self.tokens.first().map(|&(_, owner)| (last, usize::from(owner)));
        let wraps = self.tokens.last().is_some_and(|&(position, _)| position < last);
        let arcs = self.tokens.iter().map(|&(position, owner)| (position, usize::from(owner)));
        arcs.chain(first.filter(|_| wraps))
    }

    fn successor(&self, position: u64) -> usize {
        let index = self.tokens.partition_point(|&(token, _)| token < position);
        if index == self.tokens.len() { 0 } else { index }
    }
}

/// Depends only on the member's own weight: a count relative to the other weights would move keys
/// between other members whenever a member joins.
fn token_count(virtual_nodes: u32, weight: u32) -> u32 {
    if weight == 0 {
        return 0;
    }
    let exact = u64::from(virtual_nodes) * u64::from(weight);
    let rounded = (exact + u64::from(NOMINAL_WEIGHT) / 2) / u64::from(NOMINAL_WEIGHT);
    u32::try_from(rounded.clamp(1, MAX_TOKENS)).expect("clamped")
}
