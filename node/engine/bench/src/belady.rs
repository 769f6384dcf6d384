//! The optimum that knows the future: the entry whose next use lies farthest ahead goes (Bélády,
//! "A Study of Replacement Algorithms for a Virtual-Storage Computer", 1966). A newcomer whose own
//! next use is farthest is not kept.

use std::collections::{BTreeSet, HashMap};

/// Hits of the optimum with so many slots.
pub fn hits(keys: &[u32], slots: usize) -> usize {
    let mut next = vec![usize::MAX; keys.len()];
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for (at, &key) in keys.iter().enumerate().rev() {
        next[at] = seen.insert(key, at).unwrap_or(usize::MAX);
    }
    let mut held: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut hits = 0;
    for (at, &key) in keys.iter().enumerate() {
        hits += usize::from(held.remove(&(at, key)));
        if next[at] != usize::MAX {
            held.insert((next[at], key));
        }
        if held.len() > slots {
            held.pop_last();
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_known_sequence_gives_the_known_optimum() {
        // The textbook's string with three frames: seven faults when every page must be brought
        // in; a newcomer that may be passed over does not do worse.
        let keys = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!(super::hits(&keys, 3), 12 - 7);
    }
}
