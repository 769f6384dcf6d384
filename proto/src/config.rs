//! The node's configuration file: the operator renders it, `larder-node --config` reads it.
//!
//! JSON in camel case, with units in the names; unknown fields are refused. Settings that differ
//! between the pods of one StatefulSet (name, uid, address) are flags or environment variables.

use serde::{Deserialize, Serialize};

use crate::names;

/// The root of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// The cluster that the node belongs to or reads from.
    pub cluster: ClusterRef,
    /// Whether the node is a member or a sidecar.
    pub mode: Mode,
    /// Addresses to listen on.
    #[serde(default)]
    pub listen: Listen,
    /// Bounds that every request is checked against.
    #[serde(default)]
    pub limits: Limits,
    /// Folder with one file per credential. A file is read again after it changes.
    #[serde(default = "default_credentials_directory")]
    pub credentials_directory: String,
    /// Addresses and networks (`10.0.0.0/8`) that `http` origins may connect to although they are
    /// loopback, link-local or the Kubernetes API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_targets: Vec<String>,
    /// Certificates of this node. Without them it serves and calls peers in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Seconds that requests in flight may take to finish during a shutdown.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
}

/// The node's own certificate and the authority that it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`. The files are read again after they change.
    pub directory: String,
    /// DNS name that every member's certificate contains, and that callers of members check.
    pub server_name: String,
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

/// The role of a node.
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
    /// The etcd cluster in which the member registers.
    pub registry: RegistryConfig,
    /// How keys are placed on members. Must be the same on every member.
    pub placement: Placement,
    /// Bytes that the entries of all groups may use together.
    pub capacity_bytes: u64,
    /// The memory limit of the container for which `capacityBytes` was chosen. If it is set,
    /// capacity and weight follow the limit when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Percentage of the memory for own entries that replicas of other members' hottest entries may
    /// fill; 0 keeps none.
    #[serde(default = "default_replica_percent")]
    pub replica_percent: u8,
    /// Percentage of `capacityBytes` for the hot cache: copies of other members' keys.
    #[serde(default = "default_hot_percent")]
    pub hot_percent: u32,
    /// TTL of a copy in the hot cache, in milliseconds; 0 turns the hot cache off.
    #[serde(default = "default_hot_ttl_ms")]
    pub hot_ttl_ms: u64,
    /// Keeps the hottest entries over a restart. Off if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotConfig>,
}

/// Memory of the program itself: code, runtimes, connections, one load's buffers. An idle member
/// takes 15 MB; the rest is for connections.
const PROGRAM_BYTES: u64 = 24 << 20;
/// Share of the remaining memory for entries, percent. The rest is for the allocator's overhead,
/// responses in flight and page tables.
const ENTRY_PERCENT: u64 = 80;

/// Bytes for entries in a container with a limit of `memory_bytes`.
#[must_use]
pub fn capacity_bytes(memory_bytes: u64) -> u64 {
    memory_bytes.saturating_sub(PROGRAM_BYTES) / 100 * ENTRY_PERCENT
}

/// Where and how a member saves its hottest entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Folder that outlives the process. Each member uses a folder of its own name in it, which
    /// then contains cached values.
    pub directory: String,
    /// Seconds between two snapshots while entries change.
    #[serde(default = "default_snapshot_interval_seconds")]
    pub interval_seconds: u64,
    /// Maximum size of a snapshot, in bytes. While one is written, the folder holds two.
    #[serde(default = "default_snapshot_max_bytes")]
    pub max_bytes: u64,
    /// Maximum rate at which a running member writes, in bytes per second.
    #[serde(default = "default_snapshot_bytes_per_second")]
    pub bytes_per_second: u64,
}

/// Connection to etcd and the lease that the member holds there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryConfig {
    /// One or more of `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// Folder with `ca.crt` and, for client authentication, `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_directory: Option<String>,
    /// TTL of the member's lease, in seconds.
    #[serde(default = "default_lease_ttl_seconds")]
    pub lease_ttl_seconds: u64,
}

/// Settings of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SidecarMode {
    /// `host:port` of members, or of the headless Service that selects them all.
    pub members: Vec<String>,
    /// Size of the near cache in bytes; 0 turns it off.
    #[serde(default = "default_near_cache_bytes")]
    pub near_cache_bytes: u64,
    /// Longest time in the near cache, in milliseconds. An entry never outlives its own TTL.
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
        /// Tokens of a member of nominal weight.
        virtual_nodes: u32,
        /// Hash function for keys and tokens.
        hash: RingHash,
    },
}

/// Hash function of a consistent-hashing ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingHash {
    /// CRC-32 (IEEE), as in groupcache.
    Crc32,
    /// XXH3 with 64 bits.
    Xxh3,
}

/// Addresses to listen on, as `address:port`. Port 0 selects a free port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// Cache, Admin, groupcachepb, health and reflection.
    pub grpc: String,
    /// Peer protocol. A sidecar does not use it.
    pub peer: String,
    /// HTTP gateway and groupcache's HTTP peer protocol. A sidecar does not use it.
    pub http: String,
    /// Metrics and probes.
    pub admin: String,
}

impl Default for Listen {
    fn default() -> Self {
        let any_address = |port: u16| format!("0.0.0.0:{port}");
        Self {
            grpc: any_address(names::GRPC_PORT),
            peer: any_address(names::PEER_PORT),
            http: any_address(names::HTTP_PORT),
            admin: any_address(names::ADMIN_PORT),
        }
    }
}

/// Bounds that every request is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Maximum length of a key, in bytes.
    pub max_key_bytes: usize,
    /// Maximum size of a value, in bytes. A larger value counts as an error of its origin.
    pub max_value_bytes: usize,
    /// Maximum number of keys in one `GetMany`.
    pub max_batch_keys: usize,
    /// Maximum number of requests that wait for a load or a peer. Further ones are refused with
    /// RESOURCE_EXHAUSTED.
    pub max_waiting_requests: usize,
    /// Time-out of a request without a deadline, in milliseconds.
    pub default_timeout_ms: u64,
    /// Serving threads; 0 means one per core.
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

fn default_replica_percent() -> u8 {
    12
}

fn default_hot_ttl_ms() -> u64 {
    1_000
}

fn default_snapshot_interval_seconds() -> u64 {
    30
}

fn default_snapshot_max_bytes() -> u64 {
    1 << 30
}

fn default_snapshot_bytes_per_second() -> u64 {
    32 << 20
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
    fn capacity_leaves_room_for_the_program_and_a_fifth_of_the_rest() {
        assert_eq!(capacity_bytes(512 << 20), ((512 - 24) << 20) / 100 * 80);
        assert_eq!(capacity_bytes(64 << 20), (40 << 20) / 100 * 80);
        assert_eq!(capacity_bytes(1 << 20), 0);
        for memory in [64u64 << 20, 1 << 30, 1 << 40] {
            assert!(capacity_bytes(memory) + PROGRAM_BYTES < memory);
        }
    }

    #[test]
    fn a_minimal_member_file_gets_the_defaults() {
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
    fn an_unknown_field_is_refused_by_name() {
        let text = r#"{"cluster":{"namespace":"prod","name":"shop"},"mod":{}}"#;
        let error = serde_json::from_str::<NodeConfig>(text).expect_err("a typo");
        assert!(error.to_string().contains("`mod`"), "{error}");
    }
}
