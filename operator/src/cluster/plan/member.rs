//! Owns one etcd member as it is planned, and how that is written to its StatefulSet and read back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::annotations::ETCD_STATE;

/// One member of a managed etcd cluster, and the StatefulSet of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    /// Name of the StatefulSet and of the member.
    pub name: String,
    /// Incarnation of the etcd cluster; part of the cluster's token.
    pub incarnation: u64,
    /// How the pod template starts the member.
    pub start: Start,
}

/// How a pod template starts its member. A member that finds its data ignores all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The first member of a new cluster.
    Seed,
    /// Joins an existing cluster.
    Join {
        /// Name and peer URL of every member at the time of the join, this one included.
        initial_cluster: Vec<(String, String)>,
    },
    /// Continues with its data, and does not start without it.
    Sealed {
        /// Identity of the data that it was sealed with.
        data: String,
    },
}

impl EtcdMember {
    /// The annotation [`ETCD_STATE`] of this member.
    #[must_use]
    pub fn annotation(&self) -> (String, String) {
        let start = match &self.start {
            Start::Seed => StartState::Seed {},
            Start::Join { initial_cluster } => {
                StartState::Join { initial_cluster: initial_cluster.clone() }
            }
            Start::Sealed { data } => StartState::Sealed { data: data.clone() },
        };
        let state = serde_json::to_string(&State { incarnation: self.incarnation, start })
            .expect("text and numbers are always JSON");
        (ETCD_STATE.to_owned(), state)
    }

    /// Reads back the member `name` from annotations; `None` when they name no readable state.
    #[must_use]
    pub fn from_annotations(name: &str, annotations: &BTreeMap<String, String>) -> Option<Self> {
        let state: State = serde_json::from_str(annotations.get(ETCD_STATE)?).ok()?;
        let start = match state.start {
            StartState::Seed {} => Start::Seed,
            StartState::Join { initial_cluster } => Start::Join { initial_cluster },
            StartState::Sealed { data } => Start::Sealed { data },
        };
        Some(Self { name: name.into(), incarnation: state.incarnation, start })
    }

    /// The incarnation in annotations, also when this release does not know the way to start.
    #[must_use]
    pub fn incarnation_in(annotations: &BTreeMap<String, String>) -> Option<u64> {
        let state: serde_json::Value = serde_json::from_str(annotations.get(ETCD_STATE)?).ok()?;
        state.get("incarnation")?.as_u64()
    }
}

/// The annotation's JSON, apart from the plan's own types because later releases read it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    incarnation: u64,
    start: StartState,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum StartState {
    Seed {},
    Join { initial_cluster: Vec<(String, String)> },
    Sealed { data: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_read_back_from_its_annotation() {
        let join = Start::Join { initial_cluster: vec![("a".into(), "http://a:2380".into())] };
        for start in [Start::Seed, join, Start::Sealed { data: "d".into() }] {
            let member = EtcdMember { name: "shop-etcd-1".into(), incarnation: 2, start };
            let annotations = BTreeMap::from([member.annotation()]);
            assert_eq!(EtcdMember::from_annotations("shop-etcd-1", &annotations), Some(member));
        }
        assert_eq!(EtcdMember::from_annotations("shop-etcd-1", &BTreeMap::new()), None);
    }
}
