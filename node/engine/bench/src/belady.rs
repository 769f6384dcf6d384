//! The offline optimum, which knows all future requests: it evicts the entry whose next use is
//! farthest away (Bélády, "A Study of Replacement Algorithms for a Virtual-Storage Computer",
//! 1966). A new entry whose own next use is farthest is not kept.

use std::collections::{BinaryHeap, HashMap};

/// No further use.
const NEVER: u32 = u32::MAX;

/// For every request, the index of the next request for the same key. Independent of the cache
/// size.
pub(crate) fn next_uses(keys: &[u32]) -> Vec<u32> {
    let mut next = vec![NEVER; keys.len()];
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for (at, &key) in keys.iter().enumerate().rev() {
        let at_short = u32::try_from(at).expect("streams are far shorter than 2^32");
        next[at] = seen.insert(key, at_short).unwrap_or(NEVER);
    }
    next
}

/// Hits of the optimum with this many slots.
///
/// An entry is identified by the index of its next use. Used entries stay in the heap, but below
/// all entries that are still held, so the top is always a valid victim.
pub(crate) fn hits(next: &[u32], slots: usize) -> usize {
    let mut farthest = BinaryHeap::new();
    let mut held = vec![false; next.len()];
    let (mut holds, mut hits) = (0, 0);
    for (at, &use_next) in next.iter().enumerate() {
        if held[at] {
            held[at] = false;
            holds -= 1;
            hits += 1;
        }
        if use_next == NEVER {
            continue;
        }
        farthest.push(use_next);
        held[use_next as usize] = true;
        holds += 1;
        if holds > slots {
            let victim = farthest.pop().expect("the cache is not empty");
            held[victim as usize] = false;
            holds -= 1;
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_sequence_gives_the_known_optimum() {
        // The textbook's reference string with three frames has seven faults if every page must be
        // loaded. Not keeping a page cannot cause more.
        let keys = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!(hits(&next_uses(&keys), 3), 12 - 7);
    }

    #[test]
    fn a_loop_hits_once_per_slot_and_round() {
        let keys: Vec<u32> = (0..1_000).map(|at| at % 10).collect();
        // Every round but the first has one hit per slot.
        assert_eq!(hits(&next_uses(&keys), 4), 99 * 4);
        assert_eq!(hits(&next_uses(&keys), 10), 990);
    }
}
