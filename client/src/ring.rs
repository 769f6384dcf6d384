//! The members' ring, built from one member's `Admin.Ring` response by the members' own code.

use std::sync::Arc;

use larder_proto::config;
use larder_proto::v1::{RingMember, RingResponse};

use crate::error::Error;
use crate::member::Member;

/// The ring as one member reported it: which member owns which key.
#[derive(Debug, Clone)]
pub struct Ring {
    /// In the order of the table's members.
    members: Vec<RingMember>,
    table: larder_ring::Ring,
}

impl Ring {
    /// Builds the ring that the members use from one member's report.
    ///
    /// # Errors
    /// This version does not know the placement.
    pub fn from_response(response: &RingResponse) -> Result<Self, Error> {
        let table = build(response).map_err(|problem| Error::InvalidResponse { problem })?;
        let member = |name: &str| response.members.iter().find(|m| m.name == name).cloned();
        let members = table.members().iter().filter_map(|m| member(&m.name)).collect();
        Ok(Self { members, table })
    }

    /// The member that owns a key; `None` in an empty ring.
    #[must_use]
    pub fn owner(&self, group: &str, key: &[u8]) -> Option<&RingMember> {
        self.members.get(self.table.owner_index(group, key)?)
    }

    /// Each member, by name, with its share of all keys, 0 to 1.
    #[must_use]
    pub fn shares(&self) -> Vec<(&RingMember, f64)> {
        let shares = self.table.shares().into_iter().map(|(_, share)| share);
        self.members.iter().zip(shares).collect()
    }
}

/// A ring with the channels to its members.
pub(crate) struct RoutingTable {
    /// What it was built from.
    response: RingResponse,
    ring: Arc<larder_ring::Ring>,
    /// In the order of the ring's own members.
    members: Vec<Arc<Member>>,
}

impl RoutingTable {
    /// Builds the ring; `member_at` returns the member at an address. If `last` has the same
    /// members and placement, its ring is reused: most revisions move no member.
    ///
    /// # Errors
    /// This version does not know the placement.
    pub(crate) fn new(
        response: RingResponse,
        last: Option<&Self>,
        member_at: impl Fn(&str) -> Arc<Member>,
    ) -> Result<Self, String> {
        let is_same = |last: &&Self| {
            last.response.members == response.members
                && last.response.placement_json == response.placement_json
        };
        let ring = match last.filter(is_same) {
            Some(last) => Arc::clone(&last.ring),
            None => Arc::new(build(&response)?),
        };
        let address = |name: &str| {
            let member = response.members.iter().find(|m| m.name == name);
            member.map(|m| m.grpc_address.as_str()).expect("the ring is made of these names")
        };
        let members = ring.members().iter().map(|m| member_at(address(&m.name))).collect();
        Ok(Self { response, ring, members })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.response.revision
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// The zone of each of [`RoutingTable::members`].
    pub(crate) fn zones(&self) -> impl Iterator<Item = Option<&str>> {
        self.ring.members().iter().map(|member| member.zone.as_deref())
    }

    /// Index of the key's owner in [`RoutingTable::members`].
    pub(crate) fn owner(&self, group: &str, key: &[u8]) -> Option<usize> {
        self.ring.owner_index(group, key)
    }
}

fn build(response: &RingResponse) -> Result<larder_ring::Ring, String> {
    let placement: config::Placement = serde_json::from_str(&response.placement_json)
        .map_err(|error| format!("placement {:?}: {error}", response.placement_json))?;
    let members = response.members.iter().map(larder_ring::Member::from);
    Ok(larder_ring::Ring::new(&(&placement).into(), members))
}

/// Whether a ring of revision `new` replaces the one of revision `current`. A lower revision comes
/// from a member that lags, or from a registry that was created anew; two of them in a row mean
/// the latter.
pub(crate) fn replaces(current: Option<u64>, new: u64, lower_in_a_row: &mut u32) -> bool {
    match current {
        Some(current) if new < current => {
            *lower_in_a_row += 1;
            let is_new_registry = *lower_in_a_row >= 2;
            if is_new_registry {
                *lower_in_a_row = 0;
            }
            is_new_registry
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

    fn response(revision: u64, names: &[&str], placement_json: &str) -> RingResponse {
        let member = |name: &&str| RingMember {
            name: (*name).into(),
            grpc_address: format!("{name}:7600"),
            weight: 100,
            ..RingMember::default()
        };
        let members = names.iter().map(member).collect();
        RingResponse { revision, members, placement_json: placement_json.into() }
    }

    fn table(response: RingResponse, last: Option<&RoutingTable>) -> Result<RoutingTable, String> {
        RoutingTable::new(response, last, |address| Arc::new(Member::new(address.into())))
    }

    #[test]
    fn owners_do_not_depend_on_the_order_of_the_members() {
        for json in [r#"{"rendezvous":{}}"#, r#"{"ring":{"virtualNodes":160,"hash":"Crc32"}}"#] {
            let one = table(response(1, &["a", "b", "c"], json), None).expect("known");
            let other = table(response(1, &["c", "a", "b"], json), None).expect("known");
            for i in 0_u32..100 {
                let owner = |table: &RoutingTable| {
                    let at = table.owner("g", &i.to_le_bytes()).expect("an owner");
                    table.members()[at].address().to_owned()
                };
                assert_eq!(owner(&one), owner(&other));
            }
        }
    }

    #[test]
    fn shares_add_up_and_name_the_members() {
        let response = response(1, &["b", "a"], r#"{"rendezvous":{}}"#);
        let ring = Ring::from_response(&response).expect("known");
        let shares = ring.shares();
        assert_eq!([&*shares[0].0.name, &*shares[1].0.name], ["a", "b"]);
        assert!((shares.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-9);
        let at = table(response, None).expect("known").owner("g", b"k").expect("an owner");
        assert_eq!(ring.owner("g", b"k").expect("an owner").name, shares[at].0.name);
    }

    #[test]
    fn a_revision_that_moves_no_member_reuses_the_ring() {
        let json = r#"{"rendezvous":{}}"#;
        let first = table(response(1, &["a", "b"], json), None).expect("known");
        let second = table(response(2, &["a", "b"], json), Some(&first)).expect("known");
        assert!(Arc::ptr_eq(&first.ring, &second.ring));
        let third = table(response(3, &["a"], json), Some(&second)).expect("known");
        assert!(!Arc::ptr_eq(&second.ring, &third.ring));
    }

    #[test]
    fn an_unknown_placement_is_an_error() {
        let error = table(response(1, &["a"], r#"{"maglev":{}}"#), None).err().expect("unknown");
        assert!(error.contains("maglev"), "{error}");
    }

    #[test]
    fn a_lagging_member_does_not_turn_the_ring_back_but_a_new_registry_does() {
        let mut lower = 0;
        assert!(replaces(None, 5, &mut lower));
        assert!(replaces(Some(5), 9, &mut lower));
        assert!(!replaces(Some(9), 7, &mut lower), "one member lags");
        assert!(replaces(Some(9), 9, &mut lower));
        assert!(!replaces(Some(9), 2, &mut lower));
        assert!(replaces(Some(9), 2, &mut lower), "twice in a row: a new registry");
        assert!(replaces(Some(2), 3, &mut lower));
    }
}
