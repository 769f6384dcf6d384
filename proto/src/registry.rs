//! The values that a member stores in the registry: its registration under its lease, and the
//! succession of its name without one.
//!
//! The form of a registration is the one that etcd's gRPC naming clients read (JSON with `Op`,
//! `Addr`, `Metadata`; source: etcd `client/v3/naming/endpoints`, `internal.Update`).

use serde::{Deserialize, Serialize};

/// One member's registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// 0 for "add" or 1 for "delete", as in etcd's naming clients. A leaving member writes 1 before
    /// it revokes its lease, so that its peers remove it from their rings at once.
    #[serde(rename = "Op", default)]
    pub op: u8,
    /// `host:port` of the member's gRPC port for clients.
    #[serde(rename = "Addr")]
    pub address: String,
    /// Fields that only Larder reads.
    #[serde(rename = "Metadata")]
    pub metadata: Metadata,
}

/// What a member publishes in addition to its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Uid of the pod. Distinguishes a pod from its predecessor of the same name.
    pub uid: String,
    /// `host:port` of the peer protocol.
    pub peer_address: String,
    /// `host:port` of the HTTP gateway.
    pub http_address: String,
    /// Share of the keys relative to the other members, derived from the member's memory.
    pub weight: u32,
    /// Topology zone, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Version of the member's program.
    pub version: String,
}

/// The pods that held one member's name, in the order of their first registrations. Stored without
/// a lease: it must outlive them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// Uids of the pods, the newest last.
    pub uids: Vec<String>,
}

impl Succession {
    /// Pods that are remembered. An older one that returns would count as new.
    const LENGTH: usize = 32;

    /// Appends a pod that is not in it, and drops the oldest ones beyond the limit.
    pub fn append(&mut self, uid: &str) {
        self.uids.push(uid.to_owned());
        let excess = self.uids.len().saturating_sub(Self::LENGTH);
        self.uids.drain(..excess);
    }

    /// True if the pod ever registered under the name.
    #[must_use]
    pub fn contains(&self, uid: &str) -> bool {
        self.uids.iter().any(|known| known == uid)
    }

    /// The pod that holds the name by right.
    #[must_use]
    pub fn newest(&self) -> Option<&str> {
        self.uids.last().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_has_the_form_of_an_etcd_naming_endpoint() {
        let registration = Registration {
            op: 0,
            address: "10.0.0.7:7600".into(),
            metadata: Metadata {
                uid: "u1".into(),
                peer_address: "10.0.0.7:7601".into(),
                http_address: "10.0.0.7:7680".into(),
                weight: 100,
                zone: None,
                version: "0.1.0".into(),
            },
        };
        let text = serde_json::to_string(&registration).expect("plain data");
        assert_eq!(
            text,
            r#"{"Op":0,"Addr":"10.0.0.7:7600","Metadata":{"uid":"u1","peerAddress":"10.0.0.7:7601","httpAddress":"10.0.0.7:7680","weight":100,"version":"0.1.0"}}"#
        );
        assert_eq!(serde_json::from_str::<Registration>(&text).expect("own text"), registration);
    }

    #[test]
    fn a_succession_is_bounded_and_keeps_the_newest_pods() {
        let mut succession = Succession::default();
        (0..100).for_each(|n| succession.append(&format!("uid-{n}")));
        assert_eq!(succession.newest(), Some("uid-99"));
        assert!(succession.contains("uid-68") && !succession.contains("uid-67"));
        let text = serde_json::to_string(&Succession { uids: vec!["u".into()] });
        assert_eq!(text.expect("plain data"), r#"{"uids":["u"]}"#);
    }
}
