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

/// What a peer answers that has applied all that the caller has numbered, for tests.
#[cfg(test)]
pub(crate) fn in_step(member: &str, request: v1::SyncRequest) -> v1::SyncResponse {
    let caller = request.state.and_then(|state| state.log_end).unwrap_or_default();
    let state = v1::SyncState {
        member: member.to_owned(),
        log_end: Some(v1::LogPosition { incarnation: 1, number: 0 }),
        receiver_incarnation: caller.incarnation,
        applied: Some(caller.number),
        ..v1::SyncState::default()
    };
    v1::SyncResponse { state: Some(state), members: Vec::new() }
}
