//! Owns every default of the two resources. The schemas contain them (the `default` attributes of
//! serde and schemars point here), so the API server fills them in and nothing else does.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Members of a CacheCluster.
pub const MEMBERS: i32 = 3;
/// CPU request of a member, cores, as a quantity.
pub const CPU: &str = "250m";
/// Members of a managed etcd cluster.
pub const ETCD_MEMBERS: i32 = 3;
/// Virtual nodes of a member of mean weight.
pub const VIRTUAL_NODES: i32 = 160;
/// Seconds between two snapshots of a member.
pub const SNAPSHOT_INTERVAL_SECONDS: i64 = 30;
/// Memory of a member that replicas may fill, percent.
pub const REPLICA_PERCENT: i32 = 12;
/// Members that can be evicted at one time.
pub const MAX_UNAVAILABLE: i32 = 1;
/// TTL of a loaded value, seconds.
pub const TTL_SECONDS: i64 = 60;
/// Largest share by which a TTL is shortened at random, percent.
pub const JITTER_PERCENT: i32 = 10;
/// TTL of a negative entry, seconds.
pub const NEGATIVE_TTL_SECONDS: i64 = 5;
/// Concurrent loads of one member.
pub const CONCURRENCY: i32 = 32;
/// Deadline of one load, milliseconds.
pub const TIMEOUT_MILLISECONDS: i64 = 1_000;
/// Largest number of keys in one call of an origin.
pub const MAX_KEYS: i32 = 100;
/// Key of a referenced Secret.
pub const SECRET_KEY: &str = "url";

pub(crate) fn members() -> i32 {
    MEMBERS
}

pub(crate) fn cpu() -> Quantity {
    Quantity(CPU.into())
}

pub(crate) fn etcd_members() -> i32 {
    ETCD_MEMBERS
}

pub(crate) fn virtual_nodes() -> i32 {
    VIRTUAL_NODES
}

pub(crate) fn enabled() -> bool {
    true
}

pub(crate) fn snapshot_interval_seconds() -> i64 {
    SNAPSHOT_INTERVAL_SECONDS
}

pub(crate) fn replica_percent() -> i32 {
    REPLICA_PERCENT
}

pub(crate) fn max_unavailable() -> i32 {
    MAX_UNAVAILABLE
}

pub(crate) fn ttl_seconds() -> i64 {
    TTL_SECONDS
}

pub(crate) fn jitter_percent() -> i32 {
    JITTER_PERCENT
}

pub(crate) fn negative_ttl_seconds() -> i64 {
    NEGATIVE_TTL_SECONDS
}

pub(crate) fn concurrency() -> i32 {
    CONCURRENCY
}

pub(crate) fn timeout_milliseconds() -> i64 {
    TIMEOUT_MILLISECONDS
}

pub(crate) fn max_keys() -> i32 {
    MAX_KEYS
}

pub(crate) fn secret_key() -> String {
    SECRET_KEY.into()
}
