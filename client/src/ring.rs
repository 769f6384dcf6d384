//! The members' ring, built here from what a member tells, by the same code.

use std::sync::Arc;

use larder_proto::v1::RingResponse;

use crate::member::Member;

/// A ring with the channels to its members.
pub(crate) struct RingView {
    revision: u64,
    members: Vec<Arc<Member>>,
}

impl RingView {
    /// Builds the ring; `member_at` gives the member of an address.
    ///
    /// # Errors
    /// A placement or a member that this version does not understand.
    pub(crate) fn new(
        told: &RingResponse,
        member_at: impl Fn(&str) -> Arc<Member>,
    ) -> Result<Self, String> {
        let members = told.members.iter().map(|m| member_at(&m.grpc_address)).collect();
        Ok(Self { revision: told.revision, members })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Index of the key's owner among [`RingView::members`].
    pub(crate) fn owner(&self, _group: &str, _key: &[u8]) -> Option<usize> {
        None
    }
}

/// Whether a told ring takes the place of ours. A lower revision comes from a member that lags,
/// or from a registry that was made anew; only when it is told twice in a row is it the latter.
pub(crate) fn supersedes(ours: Option<u64>, told: u64, lower_in_a_row: &mut u32) -> bool {
    match ours {
        Some(ours) if told < ours => {
            *lower_in_a_row += 1;
            let believed = *lower_in_a_row >= 2;
            if believed {
                *lower_in_a_row = 0;
            }
            believed
        }
        _ => {
            *lower_in_a_row = 0;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lagging_member_does_not_turn_the_ring_back_but_a_new_registry_does() {
        let mut lower = 0;
        assert!(supersedes(None, 5, &mut lower));
        assert!(supersedes(Some(5), 9, &mut lower));
        assert!(!supersedes(Some(9), 7, &mut lower), "one member lags");
        assert!(supersedes(Some(9), 9, &mut lower));
        assert!(!supersedes(Some(9), 2, &mut lower));
        assert!(supersedes(Some(9), 2, &mut lower), "told again: the registry began anew");
        assert!(supersedes(Some(2), 3, &mut lower));
    }
}
