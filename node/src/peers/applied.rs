//! Whether entries of another member may be stored here: pure.
//!
//! A fence keeps out what is invalidated after it was taken. It says nothing about an invalidation
//! that this member had applied before:
//!
//! 1. Member A invalidates a key. This member applies it; member B has not received it yet.
//! 2. This member takes a fence and asks B for the key.
//! 3. B answers with the old entry, and the fence is open.
//!
//! So B says how much of each log it had applied before it read the entry, and this member compares
//! that with what it had applied itself right after it took the fence. What B lacks of a log beyond
//! that, this member lacks too: it arrives later and finds the entry, or the fence is closed.

use std::sync::Arc;

use larder_proto::v1::{LogPosition, MemberPosition};

/// How much of each member's log this member has applied, its own log included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied(pub(super) Vec<AppliedUpTo>);

/// The log of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppliedUpTo {
    pub(super) member: Arc<str>,
    /// Without an incarnation if there was no contact with the member yet. What is older than this
    /// process counts as applied: it was never sent here, because this process held nothing then.
    pub(super) position: LogPosition,
    /// It is in the ring, or called lately. Another one has delivered all that it ever will.
    pub(super) is_present: bool,
}

impl Applied {
    /// True if a member with these positions has applied everything that this one has.
    pub(crate) fn is_covered_by(&self, positions: &[MemberPosition]) -> bool {
        self.0.iter().all(|log| log.is_covered_by(positions))
    }
}

impl AppliedUpTo {
    fn is_covered_by(&self, positions: &[MemberPosition]) -> bool {
        let LogPosition { incarnation, number } = self.position;
        if incarnation == 0 {
            return !self.is_present;
        }
        if number == 0 {
            return true;
        }
        let named = positions.iter().filter(|named| *named.member == *self.member);
        let mut same = named.filter_map(|n| n.position).filter(|p| p.incarnation == incarnation);
        same.next().map_or(!self.is_present, |position| position.number >= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(incarnation: u64, number: u64, is_present: bool) -> Applied {
        let position = LogPosition { incarnation, number };
        Applied(vec![AppliedUpTo { member: "shop-0".into(), position, is_present }])
    }

    fn at(member: &str, incarnation: u64, number: u64) -> MemberPosition {
        let position = Some(LogPosition { incarnation, number });
        MemberPosition { member: member.into(), position }
    }

    #[test]
    fn a_member_that_lags_behind_does_not_cover() {
        let ours = applied(7, 3, true);
        assert!(ours.is_covered_by(&[at("shop-1", 9, 0), at("shop-0", 7, 3)]));
        assert!(ours.is_covered_by(&[at("shop-0", 7, 4)]));
        assert!(!ours.is_covered_by(&[at("shop-0", 7, 2)]));
        assert!(!ours.is_covered_by(&[at("shop-0", 8, 3)]), "the log of another process");
        assert!(!ours.is_covered_by(&[at("shop-1", 7, 3)]));
        let without = MemberPosition { member: "shop-0".into(), position: None };
        assert!(!ours.is_covered_by(&[without]));
        assert!(!ours.is_covered_by(&[]));
    }

    #[test]
    fn every_log_must_be_covered() {
        let mut ours = applied(7, 3, true);
        ours.0.push(AppliedUpTo { member: "shop-1".into(), ..applied(5, 1, true).0.remove(0) });
        assert!(!ours.is_covered_by(&[at("shop-0", 7, 3)]));
        assert!(ours.is_covered_by(&[at("shop-0", 7, 3), at("shop-1", 5, 1)]));
    }

    #[test]
    fn nothing_is_stored_before_the_first_contact_with_every_present_member() {
        assert!(!applied(0, 0, true).is_covered_by(&[at("shop-0", 7, 3)]));
        assert!(applied(0, 0, false).is_covered_by(&[]));
        assert!(applied(7, 0, true).is_covered_by(&[]), "nothing is older than this process");
    }

    #[test]
    fn a_member_that_is_gone_is_missed_only_if_the_sender_lags_behind_in_its_log() {
        let ours = applied(7, 3, false);
        assert!(ours.is_covered_by(&[]));
        assert!(ours.is_covered_by(&[at("shop-0", 8, 0)]));
        assert!(!ours.is_covered_by(&[at("shop-0", 7, 2)]));
    }
}
