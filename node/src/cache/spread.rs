//! The keys that are read so often that all members should answer them, not their owner alone.
//!
//! The owner's answers say so to callers that know the ring. These send the next reads of the key
//! to all members in turn, whose hot caches answer, and whose answers say the same while the key is
//! hot there. Such a copy obeys the same invalidations as any, and ends with its own short TTL.

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use larder_engine::HotKey;

/// How long a caller may spread the reads of a key after an answer that asked for it. Each further
/// answer renews it.
const SPREAD_MS: u32 = 5_000;
/// Reads per second at one member from which on a key is spread. A key below it loads no member.
const START_RATE: f64 = 64.0;
/// A key stays spread down to this rate: with eight members each has an eighth of its reads.
const KEEP_RATE: f64 = START_RATE / 8.0;
/// Keys of a group that are spread at one time: the hit path compares each of them.
const MAX_KEYS: usize = 16;

/// The spread keys of one group.
#[derive(Default)]
pub(super) struct SpreadKeys {
    keys: ArcSwap<Vec<Box<[u8]>>>,
    /// Reads by applications at the last search.
    reads: AtomicU64,
}

impl SpreadKeys {
    /// How long an application that reads `key` should spread its further reads; 0 if not at all.
    pub(super) fn life_ms(&self, key: &[u8]) -> u32 {
        let is_spread = self.keys.load().iter().any(|spread| **spread == *key);
        if is_spread { SPREAD_MS } else { 0 }
    }

    /// Finds the keys to spread, from `reads` by applications in all and the rates of the most read
    /// keys, which are asked for only if a search could change anything. Returns their number if it
    /// did.
    pub(super) fn search(
        &self,
        reads: u64,
        rates: impl FnOnce(usize) -> Vec<HotKey>,
    ) -> Option<usize> {
        if !self.is_due(reads) {
            return None;
        }
        let before = self.keys.load();
        let next = next(&before, rates(MAX_KEYS));
        if next == **before {
            return None;
        }
        let keys = next.len();
        self.keys.store(next.into());
        Some(keys)
    }

    /// Whether a search could find or drop a key, after `reads` by applications in all.
    fn is_due(&self, reads: u64) -> bool {
        let before = self.reads.swap(reads, Ordering::Relaxed);
        !self.keys.load().is_empty() || reads != before
    }
}

/// The keys to spread, given those that are spread and the rates of the most read ones.
fn next(before: &[Box<[u8]>], rates: Vec<HotKey>) -> Vec<Box<[u8]>> {
    let is_spread = |key: &[u8]| before.iter().any(|spread| **spread == *key);
    let is_hot = |hot: &HotKey| {
        let least = if is_spread(&hot.key) { KEEP_RATE } else { START_RATE };
        hot.reads_per_second >= least
    };
    let mut keys: Vec<Box<[u8]>> =
        rates.into_iter().filter(is_hot).map(|hot| hot.key.into()).collect();
    // Sorted, so that a change of their order alone is none.
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(key: &str, reads_per_second: f64) -> HotKey {
        HotKey { key: key.into(), reads_per_second }
    }

    #[test]
    fn a_key_stays_spread_while_its_owner_has_only_a_part_of_its_reads() {
        let none = Vec::new();
        assert_eq!(next(&none, vec![hot("a", 63.0)]), none);
        let started = next(&none, vec![hot("b", 1_000.0), hot("a", 64.0)]);
        assert_eq!(started, [Box::from(*b"a"), Box::from(*b"b")]);
        assert_eq!(next(&started, vec![hot("b", 900.0), hot("a", 8.0)]), started);
        assert_eq!(next(&started, vec![hot("b", 900.0), hot("a", 7.9)]), started[1..]);
    }

    #[test]
    fn a_group_that_nobody_reads_is_not_searched() {
        let spread = SpreadKeys::default();
        assert!(!spread.is_due(0));
        assert!(spread.is_due(5));
        assert!(!spread.is_due(5));
        spread.keys.store(vec![Box::from(*b"a")].into());
        assert!(spread.is_due(5), "a key may have to be dropped");
    }
}
