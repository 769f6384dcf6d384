//! The one mapping from documents and messages to the ring's own types. Members and clients both
//! build their rings through it, so they place every key alike.

use crate::config::{Placement, RingHash};
use crate::registry::Registration;
use crate::v1::RingMember;

impl From<&Placement> for larder_ring::Placement {
    fn from(placement: &Placement) -> Self {
        match *placement {
            Placement::Rendezvous {} => Self::default(),
            Placement::Ring { virtual_nodes, hash } => {
                Self::Ring { virtual_nodes, hash: hash.into() }
            }
        }
    }
}

impl From<RingHash> for larder_ring::HashKind {
    fn from(hash: RingHash) -> Self {
        match hash {
            RingHash::Crc32 => Self::Crc32,
            RingHash::Xxh3 => Self::Xxh3,
        }
    }
}

/// The wire writes an unknown zone as an empty string.
impl From<&RingMember> for larder_ring::Member {
    fn from(member: &RingMember) -> Self {
        Self {
            name: member.name.clone(),
            weight: member.weight,
            zone: Some(member.zone.clone()).filter(|zone| !zone.is_empty()),
        }
    }
}

impl Registration {
    /// The member `name` as placement sees it.
    #[must_use]
    pub fn ring_member(&self, name: &str) -> larder_ring::Member {
        larder_ring::Member {
            name: name.to_owned(),
            weight: self.metadata.weight,
            zone: self.metadata.zone.clone(),
        }
    }
}

/// What Admin.Ring says about a member.
impl From<(&str, &Registration)> for RingMember {
    fn from((name, registration): (&str, &Registration)) -> Self {
        let metadata = &registration.metadata;
        Self {
            name: name.to_owned(),
            grpc_address: registration.address.clone(),
            http_address: metadata.http_address.clone(),
            peer_address: metadata.peer_address.clone(),
            weight: metadata.weight,
            zone: metadata.zone.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Metadata;

    #[test]
    fn a_client_places_a_member_as_the_member_places_itself() {
        for zone in [None, Some("b".to_owned())] {
            let registration = Registration {
                op: 0,
                address: "10.0.0.7:7600".into(),
                metadata: Metadata {
                    uid: "u1".into(),
                    peer_address: "10.0.0.7:7601".into(),
                    http_address: "10.0.0.7:7680".into(),
                    weight: 381,
                    zone,
                    version: "0.1.0".into(),
                },
            };
            let on_the_wire = RingMember::from(("shop-0", &registration));
            let at_the_client = larder_ring::Member::from(&on_the_wire);
            assert_eq!(at_the_client, registration.ring_member("shop-0"));
        }
    }
}
