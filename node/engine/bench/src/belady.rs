//! The optimum that knows the future: the entry whose next use lies farthest ahead goes (Bélády,
//! "A Study of Replacement Algorithms for a Virtual-Storage Computer", 1966). A newcomer whose own
//! next use is farthest is not kept.

use std::collections::{BinaryHeap, HashMap};

/// No further use.
const NEVER: u32 = u32::MAX;

/// For every request, the place of the next one for the same key; once for all sizes.
pub(crate) fn next_uses(keys: &[u32]) -> Vec<u32> {
    let mut next = vec![NEVER; keys.len()];
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for (at, &key) in keys.iter().enumerate().rev() {
        let at_short = u32::try_from(at).expect("streams are far shorter than 2^32");
        next[at] = seen.insert(key, at_short).unwrap_or(NEVER);
    }
    next
}

/// Hits of the optimum with so many slots.
///
/// An entry is known by the place of its next use. What was used stays in the heap, but below
/// everything that is still held, so that the top is always a true victim.
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
            let victim = farthest.pop().expect("more than none are held");
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
        // The textbook's string with three frames: seven faults when every page must be brought
        // in; a newcomer that may be passed over does not do worse.
        let keys = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!(hits(&next_uses(&keys), 3), 12 - 7);
    }

    #[test]
    fn a_loop_keeps_all_slots_but_the_one_for_what_passes() {
        let keys: Vec<u32> = (0..1_000).map(|at| at % 10).collect();
        // Every pass but the first hits once for each slot.
        assert_eq!(hits(&next_uses(&keys), 4), 99 * 4);
        assert_eq!(hits(&next_uses(&keys), 10), 990);
    }
}
