//! Key ranges of etcd requests: a single key, a half-open interval, or all keys from one on.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The keys that a request refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    start: Vec<u8>,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The range contains only its start.
    SingleKey,
    Before(Vec<u8>),
    Unbounded,
}

impl KeyRange {
    /// Builds a range from a request's `key` and `range_end`.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let end = match range_end {
            [] => End::SingleKey,
            [0] => End::Unbounded,
            end => End::Before(end.to_vec()),
        };
        Self { start: key.to_vec(), end }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::SingleKey => key == self.start,
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            End::Unbounded => key >= self.start.as_slice(),
        }
    }

    /// The values of `map` whose keys are in this range, in order.
    pub(super) fn of<'m, T>(
        &'m self,
        map: &'m BTreeMap<Vec<u8>, T>,
    ) -> impl Iterator<Item = &'m T> + use<'m, T> {
        let start = self.start.as_slice();
        let end = match &self.end {
            End::SingleKey => Bound::Included(start),
            // The range is empty if its end is before its start; `BTreeMap::range` would panic.
            End::Before(end) if end.as_slice() < start => Bound::Excluded(start),
            End::Before(end) => Bound::Excluded(end.as_slice()),
            End::Unbounded => Bound::Unbounded,
        };
        let empty = end == Bound::Excluded(start);
        let range = (!empty).then(|| map.range::<[u8], _>((Bound::Included(start), end)));
        range.into_iter().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_the_same_keys_as_in_etcd() {
        let map: BTreeMap<Vec<u8>, &str> =
            ["a", "ab", "b", "c"].into_iter().map(|k| (k.as_bytes().to_vec(), k)).collect();
        let of = |key: &str, end: &str| -> Vec<&str> {
            let range = KeyRange::new(key.as_bytes(), end.as_bytes());
            let found: Vec<&str> = range.of(&map).copied().collect();
            for key in map.values() {
                assert_eq!(range.contains(key.as_bytes()), found.contains(key), "{key}");
            }
            found
        };
        assert_eq!(of("a", ""), ["a"]);
        assert_eq!(of("a", "b"), ["a", "ab"]);
        assert_eq!(of("ab", "\0"), ["ab", "b", "c"]);
        assert_eq!(of("\0", "\0"), ["a", "ab", "b", "c"]);
        assert_eq!(of("x", ""), Vec::<&str>::new());
        assert_eq!(of("b", "b"), Vec::<&str>::new());
        assert_eq!(of("c", "a"), Vec::<&str>::new());
    }
}
