//! The members' ring, built here from what a member tells, by the same code.

use std::sync::Arc;

use larder_proto::config;
use larder_proto::v1::{RingMember, RingResponse};
use larder_ring::{DEFAULT_SLOTS, HashKind, Placement};

use crate::error::Error;
use crate::member::Member;

/// A ring that a member told, for those who want to know who owns what.
#[derive(Debug, Clone)]
pub struct Ring {
    /// In the order of the table's members.
    members: Vec<RingMember>,
    table: larder_ring::Ring,
}

impl Ring {
    /// Builds the ring that the members use from what one of them told.
    ///
    /// # Errors
    /// A placement that this version does not understand.
    pub fn from_told(told: &RingResponse) -> Result<Self, Error> {
        let table = build(told).map_err(|reason| Error::Nonsense { reason })?;
        let member = |name: &str| told.members.iter().find(|m| m.name == name).cloned();
        let members = table.members().iter().filter_map(|m| member(&m.name)).collect();
        Ok(Self { members, table })
    }

    /// The member that owns a key; nothing in an empty ring.
    #[must_use]
    pub fn owner(&self, group: &str, key: &[u8]) -> Option<&RingMember> {
        self.members.get(self.table.owner_index(group, key)?)
    }

    /// Each member, by name, with its part of all keys, 0 to 1.
    #[must_use]
    pub fn shares(&self) -> Vec<(&RingMember, f64)> {
        let shares = self.table.shares().into_iter().map(|(_, share)| share);
        self.members.iter().zip(shares).collect()
    }
}

/// A ring with the channels to its members.
pub(crate) struct RingView {
    revision: u64,
    /// What it was built from, to tell whether another revision has another ring.
    told: Vec<RingMember>,
    placement_json: String,
    ring: Arc<larder_ring::Ring>,
    /// In the order of the ring's own members.
    members: Vec<Arc<Member>>,
}

impl RingView {
    /// Builds the ring; `member_at` gives the member of an address. A table that `last` has
    /// already is taken from there: most revisions move no member.
    ///
    /// # Errors
    /// A placement or a member that this version does not understand.
    pub(crate) fn new(
        told: &RingResponse,
        last: Option<&Self>,
        member_at: impl Fn(&str) -> Arc<Member>,
    ) -> Result<Self, String> {
        let same = |l: &&Self| l.told == told.members && l.placement_json == told.placement_json;
        let ring = match last.filter(same) {
            Some(last) => Arc::clone(&last.ring),
            None => Arc::new(build(told)?),
        };
        let address = |name: &str| {
            let there = told.members.iter().find(|m| m.name == name);
            there.map(|m| m.grpc_address.as_str()).expect("the ring is made of these names")
        };
        let members = ring.members().iter().map(|m| member_at(address(&m.name))).collect();
        let placement_json = told.placement_json.clone();
        Ok(Self {
            revision: told.revision,
            told: told.members.clone(),
            placement_json,
            ring,
            members,
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Index of the key's owner among [`RingView::members`].
    pub(crate) fn owner(&self, group: &str, key: &[u8]) -> Option<usize> {
        self.ring.owner_index(group, key)
    }
}

fn build(told: &RingResponse) -> Result<larder_ring::Ring, String> {
    let placement: config::Placement = serde_json::from_str(&told.placement_json)
        .map_err(|error| format!("placement {:?}: {error}", told.placement_json))?;
    let placement = match placement {
        config::Placement::Rendezvous {} => Placement::Rendezvous { slots: DEFAULT_SLOTS },
        config::Placement::Ring { virtual_nodes, hash } => {
            let hash = match hash {
                config::RingHash::Crc32 => HashKind::Crc32,
                config::RingHash::Xxh3 => HashKind::Xxh3,
            };
            Placement::Ring { virtual_nodes, hash }
        }
    };
    let members = told.members.iter().map(|m| larder_ring::Member {
        name: m.name.clone(),
        weight: m.weight,
        zone: Some(m.zone.clone()).filter(|zone| !zone.is_empty()),
    });
    Ok(larder_ring::Ring::new(&placement, members))
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

    fn told(revision: u64, names: &[&str], placement_json: &str) -> RingResponse {
        let member = |name: &&str| RingMember {
            name: (*name).into(),
            grpc_address: format!("{name}:7600"),
            weight: 100,
            ..RingMember::default()
        };
        let members = names.iter().map(member).collect();
        RingResponse { revision, members, placement_json: placement_json.into() }
    }

    fn view(told: &RingResponse, last: Option<&RingView>) -> Result<RingView, String> {
        RingView::new(told, last, |address| Arc::new(Member::new(address.into())))
    }

    #[test]
    fn owners_are_those_of_the_ring_whatever_the_order_told() {
        for json in [r#"{"rendezvous":{}}"#, r#"{"ring":{"virtualNodes":160,"hash":"Crc32"}}"#] {
            let one = view(&told(1, &["a", "b", "c"], json), None).expect("understood");
            let other = view(&told(1, &["c", "a", "b"], json), None).expect("understood");
            for i in 0_u32..100 {
                let owner = |v: &RingView| {
                    let at = v.owner("g", &i.to_le_bytes()).expect("an owner");
                    v.members()[at].address().to_owned()
                };
                assert_eq!(owner(&one), owner(&other));
            }
        }
    }

    #[test]
    fn shares_add_up_and_name_the_members() {
        let told = told(1, &["b", "a"], r#"{"rendezvous":{}}"#);
        let ring = Ring::from_told(&told).expect("understood");
        let shares = ring.shares();
        assert_eq!([&*shares[0].0.name, &*shares[1].0.name], ["a", "b"]);
        assert!((shares.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-9);
        let at = view(&told, None).expect("understood").owner("g", b"k").expect("an owner");
        assert_eq!(ring.owner("g", b"k").expect("an owner").name, shares[at].0.name);
    }

    #[test]
    fn a_revision_that_moves_no_member_builds_no_table() {
        let json = r#"{"rendezvous":{}}"#;
        let first = view(&told(1, &["a", "b"], json), None).expect("understood");
        let second = view(&told(2, &["a", "b"], json), Some(&first)).expect("understood");
        assert!(Arc::ptr_eq(&first.ring, &second.ring));
        let third = view(&told(3, &["a"], json), Some(&second)).expect("understood");
        assert!(!Arc::ptr_eq(&second.ring, &third.ring));
    }

    #[test]
    fn a_placement_of_a_later_version_is_not_guessed_at() {
        let error = view(&told(1, &["a"], r#"{"maglev":{}}"#), None).err().expect("unknown");
        assert!(error.contains("maglev"), "{error}");
    }

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
