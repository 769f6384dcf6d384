//! Owns `CacheCluster`: the number of members, their memory, their etcd, the placement of keys.

#![allow(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its `pub` into the function that makes its schema"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Secret, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretReference, defaults, rules};

/// The desired state of one cache.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "larder.dev",
    version = "v1alpha1",
    kind = "CacheCluster",
    namespaced,
    status = "CacheClusterStatus",
    derive = "PartialEq",
    shortname = "cc",
    category = "all",
    category = "larder",
    doc = "A read-through cache: its members, their memory, their etcd cluster.",
    scale(
        spec_replicas_path = ".spec.members",
        status_replicas_path = ".status.members",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.ready",
        description = "Ready members of the wanted members."
    ),
    printcolumn(
        name = "Ring",
        type_ = "integer",
        json_path = ".status.ringRevision",
        description = "Registry revision of the newest registration."
    ),
    printcolumn(
        name = "Memory",
        type_ = "string",
        json_path = ".spec.memory",
        description = "Memory limit of one member."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Reason of the condition Ready."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    printcolumn(
        name = "Etcd",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="EtcdReady")].status"#,
        description = "Status of the condition EtcdReady.",
        priority = 1
    ),
    printcolumn(
        name = "Placement",
        type_ = "string",
        json_path = ".spec.placement.algorithm",
        description = "How keys are placed on members.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Message of the condition Ready.",
        priority = 1
    ),
    validation = rules::CLUSTER_NAME_LENGTH,
    validation = rules::CLUSTER_NAME_FORM
)]
#[serde(rename_all = "camelCase")]
pub struct CacheClusterSpec {
    /// Number of members. Unit: pods, 1 to 50. Default: 3.
    #[serde(default = "defaults::members")]
    #[schemars(range(min = 1, max = 50))]
    pub members: i32,
    /// Memory request and limit of one member's container. Entries may use 80 percent of what
    /// remains after 24 MiB for the program itself. Unit: bytes, as a quantity (512Mi), at least
    /// 64Mi, at most 1Ti. Required, no default.
    #[schemars(schema_with = "super::quantity_schema")]
    #[x_kube(validation = rules::MEMORY_MINIMUM)]
    #[x_kube(validation = rules::MEMORY_MAXIMUM)]
    pub memory: Quantity,
    /// CPU request of one member's container. There is no limit, because throttling makes hits
    /// slow. Without a request a busy neighbour can starve a member for seconds. Unit: cores, as a
    /// quantity (500m). Default: 250m.
    #[serde(default = "defaults::cpu")]
    #[schemars(schema_with = "super::quantity_schema")]
    pub cpu: Quantity,
    /// The etcd cluster through which members find each other: one that the operator runs, or an
    /// existing one. It holds only data that can be recreated. Default: managed, with 3 members.
    #[serde(default)]
    pub etcd: EtcdSpec,
    /// How keys are placed on members. Default: Rendezvous.
    #[serde(default)]
    pub placement: PlacementSpec,
    /// Each member's hottest entries on disk, so that a container that restarts is warm. Default: on,
    /// in an emptyDir volume.
    #[serde(default)]
    pub snapshot: SnapshotSpec,
    /// What CacheGroups of this cluster may use as origins. Default: no Secret without the label
    /// larder.dev/use-as-origin, and no loopback or link-local address.
    #[serde(default, skip_serializing_if = "OriginsSpec::is_default")]
    pub origins: OriginsSpec,
    /// Memory that replicas of other members' hottest entries may fill, so that these stay warm when
    /// their member dies. 0 keeps none. An edit restarts the members one by one. Unit: percent of
    /// the memory for entries, 0 to 50. Default: 12.
    #[serde(default = "defaults::replica_percent")]
    #[schemars(range(min = 0, max = 50))]
    pub replica_percent: i32,
    /// Image of the members. Default: the member image that the operator is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Secrets in this namespace with credentials for pulling images. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<SecretReference>,
    /// Where pods run. Default: on any node, with members spread over hosts and zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<SchedulingSpec>,
    /// Limits evictions of members, such as by a node drain. Default: one member at a time.
    #[serde(default)]
    pub pod_disruption: PodDisruptionSpec,
    /// Annotations of the members' pods, in addition to the operator's own. An edit restarts the
    /// members one by one. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// The etcd cluster: exactly one of managed and external.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ETCD_ONE_OF,
    validation = rules::ETCD_KIND_STAYS
)]
pub struct EtcdSpec {
    /// An etcd cluster that the operator runs for this CacheCluster. Default: 3 members, unless
    /// external is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedEtcdSpec>,
    /// An existing etcd cluster that the operator does not run. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalEtcdSpec>,
}

impl Default for EtcdSpec {
    fn default() -> Self {
        Self { managed: Some(ManagedEtcdSpec::default()), external: None }
    }
}

/// An etcd cluster that the operator runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ETCD_STORAGE_STAYS
)]
pub struct ManagedEtcdSpec {
    /// Number of etcd members. With 3, one can fail. Unit: pods, 1 or 3. Default: 3.
    #[serde(default = "defaults::etcd_members")]
    #[schemars(range(min = 1, max = 3))]
    #[x_kube(validation = rules::ETCD_MEMBERS)]
    pub members: i32,
    /// A volume for each member's data, deleted with the member. Default: none, the data is deleted
    /// with the pod, because the registry holds only data that can be recreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Image of the etcd members. Default: the etcd image that the operator is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

impl Default for ManagedEtcdSpec {
    fn default() -> Self {
        Self { members: defaults::ETCD_MEMBERS, storage: None, image: None }
    }
}

/// Each member's hottest entries on disk.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::SNAPSHOT_STORAGE_STAYS,
    validation = rules::SNAPSHOT_STORAGE_ENABLED
)]
pub struct SnapshotSpec {
    /// Whether members write snapshots. A snapshot contains keys and values as plain bytes. An edit
    /// restarts the members one by one. Default: true.
    #[serde(default = "defaults::enabled")]
    pub enabled: bool,
    /// Time between two snapshots while entries change. Another one is written when a member stops.
    /// Unit: seconds, 1 to 86400. Default: 30.
    #[serde(default = "defaults::snapshot_interval_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub interval_seconds: i64,
    /// A volume for each member, which outlives its pod and is deleted with the CacheCluster or
    /// when the member is scaled away. A snapshot takes at most 45 percent of it. Cannot be
    /// changed. Default: none, the snapshot is deleted with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
}

impl Default for SnapshotSpec {
    fn default() -> Self {
        Self { enabled: true, interval_seconds: defaults::SNAPSHOT_INTERVAL_SECONDS, storage: None }
    }
}

/// Label of a Secret that every CacheGroup of its namespace may name, with the value `true`.
pub const USE_AS_ORIGIN: &str = "larder.dev/use-as-origin";

/// What CacheGroups may use as origins. Without it, whoever can create a CacheGroup could read through
/// it any database whose credential is in the namespace, and what only the members' network reaches.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OriginsSpec {
    /// Addresses and networks that http origins may connect to although they are loopback or
    /// link-local addresses, such as a cloud's metadata service, or the Kubernetes API server. An
    /// edit restarts the members one by one. Unit: IP addresses or networks, such as 10.0.0.7 or
    /// 10.0.0.0/8, at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 43), regex(pattern = "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"))
    )]
    pub allowed_targets: Vec<String>,
    /// Secrets in this namespace that CacheGroups may name, in addition to those with the label
    /// larder.dev/use-as-origin: "true". Unit: names, at most 64. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub secrets: Vec<String>,
}

impl OriginsSpec {
    /// Whether a CacheGroup may use the credential in this Secret.
    #[must_use]
    pub fn allows(&self, secret: &Secret) -> bool {
        let has_label = secret.labels().get(USE_AS_ORIGIN).is_some_and(|value| value == "true");
        has_label || self.secrets.contains(&secret.name_any())
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A volume for one member, of etcd or of the cache.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Size of one volume. Unit: bytes, as a quantity (1Gi), at least 256Mi. Required, no default.
    #[schemars(schema_with = "super::quantity_schema")]
    #[x_kube(validation = rules::STORAGE_MINIMUM)]
    pub size: Quantity,
    /// StorageClass of the volumes. Default: the default class of the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// An existing etcd cluster that the operator does not run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ETCD_TLS
)]
pub struct ExternalEtcdSpec {
    /// URLs of etcd's client API, as http://host:port or https://host:port. Unit: URLs, 1 to 9.
    /// Required, no default.
    #[schemars(
        length(min = 1, max = 9),
        inner(length(max = 300), regex(pattern = "^https?://[^/@]+:[0-9]{1,5}$"))
    )]
    pub endpoints: Vec<String>,
    /// Secret with ca.crt, and with tls.crt and tls.key for client authentication. Required with
    /// https endpoints. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretReference>,
}

/// How keys are placed on members.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::RING_ALGORITHM
)]
pub struct PlacementSpec {
    /// Rendezvous: weighted rendezvous hashing over a slot table, which moves the fewest keys when
    /// members change. Ring: consistent hashing with virtual nodes, as in groupcache. Default:
    /// Rendezvous.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Settings of the algorithm Ring. Default: 160 virtual nodes, hash Xxh3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingSpec>,
}

/// An algorithm that places keys on members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Weighted rendezvous hashing over a slot table.
    #[default]
    Rendezvous,
    /// Consistent hashing with virtual nodes.
    Ring,
}

/// Settings of consistent hashing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingSpec {
    /// Virtual nodes of a member of mean weight. More virtual nodes spread keys more evenly. Unit:
    /// points on the ring, 1 to 4096. Default: 160.
    #[serde(default = "defaults::virtual_nodes")]
    #[schemars(range(min = 1, max = 4096))]
    pub virtual_nodes: i32,
    /// Hash of keys and virtual nodes: Crc32, as in groupcache, or Xxh3, which is faster and
    /// spreads keys more evenly. Default: Xxh3.
    #[serde(default)]
    pub hash: RingHash,
}

impl Default for RingSpec {
    fn default() -> Self {
        Self { virtual_nodes: defaults::VIRTUAL_NODES, hash: RingHash::default() }
    }
}

/// Hash of keys and virtual nodes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingHash {
    /// CRC-32 (IEEE), as in groupcache.
    Crc32,
    /// XXH3, 64 bits.
    #[default]
    Xxh3,
}

/// Where pods run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SchedulingSpec {
    /// Labels that a Kubernetes node must have to run members or etcd. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the members' and etcd's pods. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity of the members' pods, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Topology spread constraints of the members' pods, which replace the default. Default: spread
    /// over hosts and zones, both as a preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass of the members' and etcd's pods. Default: the default of the Kubernetes
    /// cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Limits evictions of members.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionSpec {
    /// Members that can be evicted at one time. Members that are not ready can always be evicted.
    /// Unit: pods, 1 to 50. Default: 1.
    #[serde(default = "defaults::max_unavailable")]
    #[schemars(range(min = 1, max = 50))]
    pub max_unavailable: i32,
}

impl Default for PodDisruptionSpec {
    fn default() -> Self {
        Self { max_unavailable: defaults::MAX_UNAVAILABLE }
    }
}

/// The observed state of a CacheCluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheClusterStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, EtcdReady and MembersReady, each with the generation that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Number of members' pods, for the scale subresource. Unit: pods.
    #[serde(default)]
    pub members: i32,
    /// Number of members that are ready. Unit: pods.
    #[serde(default)]
    pub ready_members: i32,
    /// Ready members of the wanted members, for people, such as 3/3.
    #[serde(default)]
    pub ready: String,
    /// Label selector of the members' pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Registry revision of the newest registration of a member. Absent while the registry does not
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_revision: Option<i64>,
}
