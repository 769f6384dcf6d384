//! etcd's way to name keys: one, from one to another, or from one on.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Which keys a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    from: Vec<u8>,
    to: To,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    /// Only `from` itself.
    Itself,
    /// Everything before this key.
    Before(Vec<u8>),
    /// The last key.
    End,
}

impl KeyRange {
    /// From a request's `key` and `range_end`.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let to = match range_end {
            [] => To::Itself,
            [0] => To::End,
            end => To::Before(end.to_vec()),
        };
        Self { from: key.to_vec(), to }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.to {
            To::Itself => key == self.from,
            To::Before(end) => key >= self.from.as_slice() && key < end.as_slice(),
            To::End => key >= self.from.as_slice(),
        }
    }

    /// The values of `map` under this range's keys, in order.
    pub(super) fn of<'m, T>(
        &'m self,
        map: &'m BTreeMap<Vec<u8>, T>,
    ) -> impl Iterator<Item = &'m T> + use<'m, T> {
        let from = self.from.as_slice();
        let to = match &self.to {
            To::Itself => Bound::Included(from),
            // An end before the start names nothing; a map would refuse it.
            To::Before(end) if end.as_slice() < from => Bound::Excluded(from),
            To::Before(end) => Bound::Excluded(end.as_slice()),
            To::End => Bound::Unbounded,
        };
        let nothing = to == Bound::Excluded(from);
        let range = (!nothing).then(|| map.range::<[u8], _>((Bound::Included(from), to)));
        range.into_iter().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_name_what_etcd_says_they_name() {
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
