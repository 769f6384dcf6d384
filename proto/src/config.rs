//! The node's configuration file: what the operator renders and `larder-node --config` reads.
//!
//! JSON, camel case, units in the names, unknown fields refused. What differs between the pods of
//! one StatefulSet (name, uid, address) is not here: it comes by flag or environment.

use serde::{Deserialize, Serialize};

use crate::names;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// The cluster that the node belongs to or reads from.
    pub cluster: ClusterRef,
    /// What the node is.
    pub mode: Mode,
    /// Ports to listen on.
    #[serde(default)]
    pub listen: Listen,
    /// Requests beyond these are refused at the edge.
    #[serde(default)]
    pub limits: Limits,
    /// Folder with one file per credential; a file is read again when it changes.
    #[serde(default = "default_credentials_directory")]
    pub credentials_directory: String,
    /// Seconds that requests in flight are given after a stop was asked for.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
}

/// Namespace and name of a CacheCluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRef {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the CacheCluster.
    pub name: String,
}

/// What the node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Mode {
    /// Owns keys, registers, serves peers.
    Member(MemberMode),
    /// Owns nothing; keeps a near cache and forwards to the members.
    Sidecar(SidecarMode),
}

/// Settings of a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberMode {
    /// How the member registers.
    pub registry: Registry,
    /// How keys are placed on members; the same in every member.
    pub placement: Placement,
    /// Bytes that entries may use, all groups together.
    pub capacity_bytes: u64,
    /// Share of `capacityBytes` for copies of other members' keys, percent.
    #[serde(default = "default_hot_percent")]
    pub hot_percent: u32,
    /// Life of such a copy, milliseconds; 0 keeps none.
    #[serde(default = "default_hot_ttl_ms")]
    pub hot_ttl_ms: u64,
}

/// How a member reaches and uses etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// `http://host:port` or `https://host:port`, one or more.
    pub endpoints: Vec<String>,
    /// Folder with `ca.crt`, and `tls.crt` with `tls.key` for client authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_directory: Option<String>,
    /// Life of the member's lease, seconds.
    #[serde(default = "default_lease_ttl_seconds")]
    pub lease_ttl_seconds: u64,
}

/// Settings of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SidecarMode {
    /// `host:port` of members, or of the headless Service that names them all.
    pub members: Vec<String>,
    /// Bytes of the near cache; 0 keeps none.
    #[serde(default = "default_near_cache_bytes")]
    pub near_cache_bytes: u64,
    /// Longest life in the near cache, milliseconds; an answer's own remaining life is the other bound.
    #[serde(default = "default_near_cache_ttl_ms")]
    pub near_cache_ttl_ms: u64,
}

/// How keys are placed on members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Placement {
    /// Weighted rendezvous hashing over a slot table.
    Rendezvous {},
    /// Consistent hashing with virtual nodes.
    #[serde(rename_all = "camelCase")]
    Ring {
        /// Points of a member of mean weight.
        virtual_nodes: u32,
        /// Hash of keys and points.
        hash: RingHash,
    },
}

/// Hash of keys and points of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingHash {
    /// CRC-32 (IEEE), as in groupcache.
    Crc32,
    /// XXH3, 64 bits.
    Xxh3,
}

/// Addresses to listen on: `address:port`; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// Cache, Admin, groupcachepb, health and reflection.
    pub grpc: String,
    /// Peer protocol; unused by a sidecar.
    pub peer: String,
    /// HTTP gateway and groupcache's HTTP peers; unused by a sidecar.
    pub http: String,
    /// Metrics and probes.
    pub admin: String,
}

impl Default for Listen {
    fn default() -> Self {
        let on = |port: u16| format!("0.0.0.0:{port}");
        Self {
            grpc: on(names::GRPC_PORT),
            peer: on(names::PEER_PORT),
            http: on(names::HTTP_PORT),
            admin: on(names::ADMIN_PORT),
        }
    }
}

/// Requests beyond these are refused at the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest key, bytes.
    pub max_key_bytes: usize,
    /// Largest value, bytes; a larger one is an error of its origin.
    pub max_value_bytes: usize,
    /// Most keys in one `GetMany`.
    pub max_batch_keys: usize,
    /// Requests in flight that wait for a load or a peer; more are refused with RESOURCE_EXHAUSTED.
    pub max_waiting_requests: usize,
    /// Limit of a request that brought no deadline, milliseconds.
    pub default_timeout_ms: u64,
    /// Serving threads; 0 takes one per core.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key_bytes: names::MAX_KEY_BYTES,
            max_value_bytes: names::MAX_VALUE_BYTES,
            max_batch_keys: names::MAX_BATCH_KEYS,
            max_waiting_requests: 10_000,
            default_timeout_ms: 5_000,
            workers: 0,
        }
    }
}

fn default_credentials_directory() -> String {
    "/etc/larder/credentials".into()
}

fn default_drain_seconds() -> u64 {
    20
}

fn default_hot_percent() -> u32 {
    10
}

fn default_hot_ttl_ms() -> u64 {
    1_000
}

fn default_lease_ttl_seconds() -> u64 {
    10
}

fn default_near_cache_bytes() -> u64 {
    16 * 1024 * 1024
}

fn default_near_cache_ttl_ms() -> u64 {
    1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_member_file_gets_defaults() {
        let text = r#"{"cluster":{"namespace":"prod","name":"shop"},
            "mode":{"member":{"registry":{"endpoints":["http://shop-etcd:2379"]},
            "placement":{"rendezvous":{}},"capacityBytes":400000000}}}"#;
        let config: NodeConfig = serde_json::from_str(text).expect("valid");
        assert_eq!(config.listen.grpc, "0.0.0.0:7600");
        assert_eq!(config.drain_seconds, 20);
        let Mode::Member(member) = config.mode else { panic!("a member") };
        assert_eq!(member.registry.lease_ttl_seconds, 10);
        assert_eq!(member.placement, Placement::Rendezvous {});
    }

    #[test]
    fn ring_placement_keeps_its_json_form() {
        let ring = Placement::Ring { virtual_nodes: 160, hash: RingHash::Crc32 };
        let text = serde_json::to_string(&ring).expect("plain data");
        assert_eq!(text, r#"{"ring":{"virtualNodes":160,"hash":"Crc32"}}"#);
    }

    #[test]
    fn misspelt_fields_are_refused_by_name() {
        let text = r#"{"cluster":{"namespace":"prod","name":"shop"},"mod":{}}"#;
        let error = serde_json::from_str::<NodeConfig>(text).expect_err("a typo");
        assert!(error.to_string().contains("`mod`"), "{error}");
    }
}
