//! Owns `CacheGroup`: one named key space, where its values come from and how fresh they must be.

#![allow(
    unreachable_pub,
    reason = "KubeSchema copies each struct, `pub` and all, into the function that makes its schema"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyReference, defaults, rules};

/// What a user asks of one group.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "larder.dev",
    version = "v1alpha1",
    kind = "CacheGroup",
    namespaced,
    status = "CacheGroupStatus",
    derive = "PartialEq",
    shortname = "cg",
    category = "all",
    category = "larder",
    doc = "A key space of a CacheCluster: where values come from, how fresh they must be.",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name",
        description = "The CacheCluster that serves the group."
    ),
    printcolumn(
        name = "Policy",
        type_ = "string",
        json_path = ".spec.policy",
        description = "Which entry is evicted for room."
    ),
    printcolumn(
        name = "TTL",
        type_ = "integer",
        json_path = ".spec.freshness.ttlSeconds",
        description = "Life of a loaded value, seconds."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Condition Ready."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since it was created."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Reason of the condition Ready.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "Message of the condition Ready.",
        priority = 1
    ),
    validation = rules::GROUP_NAME_LENGTH
)]
#[serde(rename_all = "camelCase")]
pub struct CacheGroupSpec {
    /// The CacheCluster of the same namespace that serves this group. Cannot be changed. Required,
    /// no default.
    #[x_kube(validation = rules::CLUSTER_REF_STAYS)]
    pub cluster_ref: ClusterReference,
    /// Where values come from: exactly one of sql and http. Required, no default.
    pub origin: OriginSpec,
    /// Which entry leaves when room is needed: Lru the one not asked for the longest, Lfu the least
    /// often asked, Fifo the oldest, Lru2 by its last use but one, Arc by recency and frequency,
    /// S3Fifo and Sieve those not asked again soon after they came, TinyLfu by frequency or recent
    /// use, whichever serves the traffic. A change keeps the entries. Default: TinyLfu.
    #[serde(default)]
    pub policy: Policy,
    /// How long an answer may be kept and used. Default: a life of 60 seconds, never stale.
    #[serde(default)]
    pub freshness: FreshnessSpec,
    /// How hard one member may use the origin. Default: 32 loads at a time, 1 second each.
    #[serde(default)]
    pub origin_limits: OriginLimitsSpec,
}

/// A CacheCluster of the same namespace, by name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReference {
    /// Name of the CacheCluster. Required, no default.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Where values come from: exactly one of the two.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ORIGIN_ONE_OF
)]
pub struct OriginSpec {
    /// A row of a SQL database: PostgreSQL, MySQL or SQLite, told apart by the URL's scheme.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlOriginSpec>,
    /// The body of an HTTP answer: 200 is the value, 404 is absent, anything else is an error.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOriginSpec>,
}

/// A row of a SQL database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SqlOriginSpec {
    /// The key of a Secret that holds the connection URL, such as
    /// postgres://user:password@host/database. Required, no default.
    pub url_secret_ref: SecretKeyReference,
    /// Query whose first column of its first row is the value; no row is absent. The key is bound
    /// to its one placeholder, $1 or ?, and never spliced in. Required, no default.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = rules::QUERY_PLACEHOLDER)]
    #[x_kube(validation = rules::QUERY_ONE_PARAMETER)]
    pub query: String,
}

/// The body of an HTTP answer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpOriginSpec {
    /// URL in which {key} stands for the percent-encoded key, such as
    /// http://scores.default/students/{key}. Required, no default.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    #[x_kube(validation = rules::URL_HAS_KEY)]
    #[x_kube(validation = rules::URL_NO_CREDENTIALS)]
    pub url_template: String,
}

/// An eviction policy. Adding one is a variant here and a file in the engine.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Least recently used.
    Lru,
    /// Least frequently used, with ageing.
    Lfu,
    /// First in, first out.
    Fifo,
    /// By the second-last use, with watermarks.
    Lru2,
    /// Recency and frequency with a border that moves by itself.
    Arc,
    /// A small queue for newcomers before the main one.
    S3Fifo,
    /// One queue and a hand that passes what was used.
    Sieve,
    /// Admission by frequency or recent use, whichever serves the traffic.
    #[default]
    TinyLfu,
}

impl Policy {
    /// Its name, as in the resource and in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "Lru",
            Self::Lfu => "Lfu",
            Self::Fifo => "Fifo",
            Self::Lru2 => "Lru2",
            Self::Arc => "Arc",
            Self::S3Fifo => "S3Fifo",
            Self::Sieve => "Sieve",
            Self::TinyLfu => "TinyLfu",
        }
    }
}

/// How long an answer may be kept and used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FreshnessSpec {
    /// Life of a loaded value. Unit: seconds, 1 to 31536000. Default: 60.
    #[serde(default = "defaults::ttl_seconds")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: i64,
    /// A life is shortened by a random share of up to this much, so that what was loaded together
    /// does not expire together. Unit: percent, 0 to 90. Default: 10.
    #[serde(default = "defaults::jitter_percent")]
    #[schemars(range(min = 0, max = 90))]
    pub jitter_percent: i32,
    /// For so long after its life an answer may be given, marked stale, while one reload runs.
    /// Unit: seconds, 0 to 31536000. Default: 0, never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub stale_while_revalidate_seconds: i64,
    /// For so long after its life an answer may be given, marked stale, when the origin fails.
    /// Unit: seconds, 0 to 31536000. Default: 0, never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub stale_if_error_seconds: i64,
    /// Life of the answer that the origin has no such key. Unit: seconds, 0 to 31536000; 0 does not
    /// remember it. Default: 5.
    #[serde(default = "defaults::negative_ttl_seconds")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub negative_ttl_seconds: i64,
}

impl Default for FreshnessSpec {
    fn default() -> Self {
        Self {
            ttl_seconds: defaults::TTL_SECONDS,
            jitter_percent: defaults::JITTER_PERCENT,
            stale_while_revalidate_seconds: 0,
            stale_if_error_seconds: 0,
            negative_ttl_seconds: defaults::NEGATIVE_TTL_SECONDS,
        }
    }
}

/// How hard one member may use the origin.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OriginLimitsSpec {
    /// Loads in flight at one time, from one member. Unit: loads, 1 to 10000. Default: 32.
    #[serde(default = "defaults::concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: i32,
    /// Limit of one load. Unit: milliseconds, 1 to 600000. Default: 1000.
    #[serde(default = "defaults::timeout_milliseconds")]
    #[schemars(range(min = 1, max = 600_000))]
    pub timeout_milliseconds: i64,
}

impl Default for OriginLimitsSpec {
    fn default() -> Self {
        Self {
            concurrency: defaults::CONCURRENCY,
            timeout_milliseconds: defaults::TIMEOUT_MILLISECONDS,
        }
    }
}

/// What is true of a CacheGroup.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheGroupStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted and Written, each with the generation that it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Registry revision at which the group's contract was last written, while it stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_revision: Option<i64>,
}
