//! Owns `CacheGroup`: one named key space, the origin of its values, and how fresh they must be.

#![allow(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its `pub` into the function that makes its schema"
)]

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyReference, defaults, rules};

/// The desired state of one group.
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
        description = "Eviction policy."
    ),
    printcolumn(
        name = "TTL",
        type_ = "integer",
        json_path = ".spec.freshness.ttlSeconds",
        description = "TTL of a loaded value, seconds."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Status of the condition Ready."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
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
    /// The CacheCluster in the same namespace that serves this group. It cannot be changed.
    /// Required, no default.
    #[x_kube(validation = rules::CLUSTER_REF_STAYS)]
    pub cluster_ref: ClusterReference,
    /// The origin of values: exactly one of sql and http. Required, no default.
    pub origin: OriginSpec,
    /// Which entry is evicted when the capacity is reached. Lru: the least recently used. Lfu: the
    /// least frequently used. Fifo: the oldest. Lru2: the one whose second-last use is the oldest.
    /// Arc: by recency and frequency. S3Fifo and Sieve: entries that are not used again soon after
    /// their insertion. TinyLfu: by frequency or recency, whichever suits the traffic. A change
    /// keeps the entries. Default: TinyLfu.
    #[serde(default)]
    pub policy: Policy,
    /// How long a value is fresh and when it can be served stale. Default: 60 seconds, never stale.
    #[serde(default)]
    pub freshness: FreshnessSpec,
    /// Limits of one member's load on the origin. Default: 32 concurrent loads of at most 1 second.
    #[serde(default)]
    pub origin_limits: OriginLimitsSpec,
    /// Memory of each member that the entries of other groups cannot take from this group. The rest
    /// is shared as needed. If the guarantees of all groups exceed a member's memory for entries,
    /// they shrink in proportion. Unit: bytes, as a quantity (64Mi), 1Mi to 1Ti. Default: no
    /// guarantee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::quantity_schema")]
    #[x_kube(validation = rules::GUARANTEE_MINIMUM)]
    #[x_kube(validation = rules::GUARANTEE_MAXIMUM)]
    pub guaranteed_memory: Option<Quantity>,
}

impl CacheGroup {
    /// The Secret key with the group's connection URL; `None` when its origin needs none.
    #[must_use]
    pub fn url_secret(&self) -> Option<&SecretKeyReference> {
        self.spec.origin.sql.as_ref().map(|sql| &sql.url_secret_ref)
    }
}

/// A CacheCluster in the same namespace, by name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReference {
    /// Name of the CacheCluster. Required, no default.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// The origin of values: exactly one of sql and http.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ORIGIN_ONE_OF
)]
pub struct OriginSpec {
    /// A row of a SQL database: PostgreSQL, MySQL or SQLite, by the scheme of the connection URL.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlOriginSpec>,
    /// The body of an HTTP response: 200 is the value, 404 is absent, any other status is an error.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOriginSpec>,
}

/// A row of a SQL database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SqlOriginSpec {
    /// The key of a Secret with the connection URL, such as
    /// postgres://user:password@host/database. The Secret must have the label
    /// larder.dev/use-as-origin: "true", or be in the CacheCluster's origins.secrets. Required, no
    /// default.
    pub url_secret_ref: SecretKeyReference,
    /// Query whose first row's first column is the value; no row means absent. The key is bound to
    /// the one placeholder, $1 or ?, as a parameter. It must only read. Required, no default.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = rules::QUERY_PLACEHOLDER)]
    #[x_kube(validation = rules::QUERY_ONE_PARAMETER)]
    pub query: String,
    /// Name of a further column of the query with the tags of the value, by which larder invalidate
    /// --tag drops it: a text with commas or white space between the tags or, in PostgreSQL, an
    /// array. At most 64 tags of at most 128 bytes. A change empties the group. Default: none, the
    /// values have no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub tags_column: Option<String>,
    /// Loads keys that are wanted at nearly the same time with one query. A change of its query or
    /// key column empties the group. Default: none, one query per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<SqlBatchSpec>,
}

/// A query for several keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SqlBatchSpec {
    /// Query with one row per key, and the value in the first column. The keys are bound to the one
    /// placeholder: in PostgreSQL $1 is an array, as in = ANY($1); in MySQL and SQLite $1 or ?
    /// becomes a list, as in IN ($1). A key without a row is absent. Required, no default.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = rules::BATCH_PLACEHOLDER)]
    #[x_kube(validation = rules::BATCH_ONE_PARAMETER)]
    pub query: String,
    /// Name of a further column of this query with the key, spelled as it was requested. Required,
    /// no default.
    #[schemars(length(min = 1, max = 63))]
    pub key_column: String,
    /// Keys of one query. Unit: keys, 1 to 1000. Default: 100.
    #[serde(default = "defaults::max_keys")]
    #[schemars(range(min = 1, max = 1_000))]
    #[x_kube(validation = rules::MAX_KEYS_MINIMUM)]
    pub max_keys: i32,
}

/// The body of an HTTP response.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpOriginSpec {
    /// URL in which {key} is replaced by the percent-encoded key, such as
    /// http://scores.default/students/{key}. Required, no default.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    #[x_kube(validation = rules::URL_HAS_KEY)]
    #[x_kube(validation = rules::URL_NO_CREDENTIALS)]
    pub url_template: String,
    /// Name of a response header with the tags of the value, such as Cache-Tag or Surrogate-Key, by
    /// which larder invalidate --tag drops it: tags with commas or white space between them. At
    /// most 64 tags of at most 128 bytes. A change empties the group. Default: none, the values
    /// have no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::TAGS_HEADER_NAME)]
    pub tags_header: Option<String>,
    /// Loads keys that are wanted at nearly the same time with one request. A change of its URL
    /// empties the group. Default: none, one request per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<HttpBatchSpec>,
}

/// A request for several keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpBatchSpec {
    /// URL to which {"keys": ["Tom", ...]} is posted as JSON. The response is an object with an
    /// item per key, such as {"Tom": {"value": "630"}}: value is a text, base64 the base64 form of
    /// bytes, tags an optional list of tags. A key without an item, or with null, is absent.
    /// Required, no default.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    #[x_kube(validation = rules::BATCH_URL_WITHOUT_KEY)]
    #[x_kube(validation = rules::BATCH_URL_NO_CREDENTIALS)]
    pub url: String,
    /// Keys of one request. Unit: keys, 1 to 1000. Default: 100.
    #[serde(default = "defaults::max_keys")]
    #[schemars(range(min = 1, max = 1_000))]
    #[x_kube(validation = rules::MAX_KEYS_MINIMUM)]
    pub max_keys: i32,
}

/// An eviction policy. A new one is a variant here and a file in the engine.
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
    /// By recency and frequency, with an adaptive share for each.
    Arc,
    /// A small queue for new entries in front of the main queue.
    S3Fifo,
    /// One queue and a hand that skips entries that were used.
    Sieve,
    /// Admission by frequency or recency, whichever suits the traffic.
    #[default]
    TinyLfu,
}

impl Policy {
    /// The name of the policy in the resource and in the contract.
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

/// How long a value is fresh and when it can be served stale.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FreshnessSpec {
    /// TTL of a loaded value. Unit: seconds, 1 to 31536000. Default: 60.
    #[serde(default = "defaults::ttl_seconds")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub ttl_seconds: i64,
    /// A TTL is shortened by a random share of up to this much, so that values that were loaded
    /// together do not expire together. Unit: percent, 0 to 90. Default: 10.
    #[serde(default = "defaults::jitter_percent")]
    #[schemars(range(min = 0, max = 90))]
    pub jitter_percent: i32,
    /// How long after its TTL a value is still served, marked as stale, while one reload runs.
    /// Unit: seconds, 0 to 31536000. Default: 0, never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub stale_while_revalidate_seconds: i64,
    /// How long after its TTL a value is still served, marked as stale, when the origin fails.
    /// Unit: seconds, 0 to 31536000. Default: 0, never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub stale_if_error_seconds: i64,
    /// TTL of a negative entry, which records that the origin does not have the key. 0 disables
    /// negative caching. Unit: seconds, 0 to 31536000. Default: 5.
    #[serde(default = "defaults::negative_ttl_seconds")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub negative_ttl_seconds: i64,
    /// How early a value that is read often is reloaded before its TTL ends, so that no read waits
    /// for the load or is served a stale value. 100 reloads it, on average, the time of one load
    /// early; 0 never. Unit: percent of the time of one load, 0 to 1000. Default: 0, never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000))]
    pub early_refresh_percent: i32,
}

impl Default for FreshnessSpec {
    fn default() -> Self {
        Self {
            ttl_seconds: defaults::TTL_SECONDS,
            jitter_percent: defaults::JITTER_PERCENT,
            stale_while_revalidate_seconds: 0,
            stale_if_error_seconds: 0,
            negative_ttl_seconds: defaults::NEGATIVE_TTL_SECONDS,
            early_refresh_percent: 0,
        }
    }
}

/// Limits of one member's load on the origin.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::BURST_NEEDS_RATE)]
pub struct OriginLimitsSpec {
    /// Concurrent loads of one member. Loads that share a call of the origin count as one, here and
    /// in loadsPerSecond and burst. Unit: loads, 1 to 10000. Default: 32.
    #[serde(default = "defaults::concurrency")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: i32,
    /// Deadline of one load. Unit: milliseconds, 1 to 600000. Default: 1000.
    #[serde(default = "defaults::timeout_milliseconds")]
    #[schemars(range(min = 1, max = 600_000))]
    pub timeout_milliseconds: i64,
    /// Loads that one member may start per second in the long run. Further ones are refused with
    /// the time after which to retry, or a stale entry is served where staleIfErrorSeconds allows
    /// it. Unit: loads per second, 1 to 1000000. Default: none, no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    #[x_kube(validation = rules::RATE_MINIMUM)]
    pub loads_per_second: Option<i32>,
    /// Loads that one member may start at once after a quiet time. Needs loadsPerSecond. Unit:
    /// loads, 1 to 1000000. Default: the loads of one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    #[x_kube(validation = rules::BURST_MINIMUM)]
    pub burst: Option<i32>,
}

impl Default for OriginLimitsSpec {
    fn default() -> Self {
        Self {
            concurrency: defaults::CONCURRENCY,
            timeout_milliseconds: defaults::TIMEOUT_MILLISECONDS,
            loads_per_second: None,
            burst: None,
        }
    }
}

/// The observed state of a CacheGroup.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheGroupStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted and Written, each with the generation that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Registry revision at which the group's contract was last written. Absent while it is not in
    /// the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_revision: Option<i64>,
}
