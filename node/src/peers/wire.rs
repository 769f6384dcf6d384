//! Invalidations as messages, for peers and for the snapshot's files.

use larder_proto::v1;

use super::log::Invalidation;

pub(crate) fn to_wire(number: u64, what: &Invalidation) -> v1::Invalidation {
    v1::Invalidation {
        number,
        group: what.group.as_deref().unwrap_or_default().to_owned(),
        keys: what.keys.to_vec(),
        tags: what.tags.to_vec(),
        copies_only: what.copies_only,
    }
}

pub(crate) fn from_wire(what: v1::Invalidation) -> Invalidation {
    Invalidation {
        group: (!what.group.is_empty()).then(|| what.group.into()),
        keys: what.keys.into(),
        tags: what.tags.into(),
        copies_only: what.copies_only,
    }
}
