//! Keys, and the values that say where they come from.

use bytes::Bytes;

/// A key of a group, both by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) group: usize,
    pub(crate) index: usize,
}

/// What the origin has for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Value,
    /// A value without bytes, which is not the same as absent.
    Empty,
    Absent,
}

/// Tags of a group; each key has one of them.
pub(crate) const TAGS: usize = 3;

/// Where a value was read: its key, the version of its key, the number of its load, and the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) key: Key,
    pub(crate) version: u64,
    pub(crate) load: usize,
    /// Counts the origins of the group.
    pub(crate) origin: u64,
}

impl Key {
    pub(crate) fn name(self) -> Bytes {
        format!("k{}", self.index).into()
    }

    /// Number of its tag.
    pub(crate) fn tag(self) -> usize {
        self.index % TAGS
    }
}

pub(crate) fn tag_name(tag: usize) -> Bytes {
    format!("tag {tag}").into()
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "g{}/k{}", self.group, self.index)
    }
}

impl Stamp {
    pub(crate) fn to_value(self) -> Bytes {
        let Self { key, version, load, origin } = self;
        format!("{} {} {version} {load} {origin}", key.group, key.index).into()
    }

    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split(' ');
        let mut next = || parts.next()?.parse::<u64>().ok();
        let number = |n: u64| usize::try_from(n).ok();
        let key = Key { group: number(next()?)?, index: number(next()?)? };
        let (version, load) = (next()?, number(next()?)?);
        Some(Self { key, version, load, origin: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_value() {
        let key = Key { group: 1, index: 7 };
        let stamp = Stamp { key, version: 12, load: 345, origin: 2 };
        assert_eq!(Stamp::parse(&stamp.to_value()), Some(stamp));
        assert_eq!(Stamp::parse(b"1 7 12 345"), None);
        assert_eq!(Stamp::parse(b""), None);
    }
}
