//! Owns the names of conditions. Every condition is present from the first reconcile on, with the
//! generation that it is about. The reasons are in the `status` module of each resource.

/// Of both: every other condition of the object is true for its newest generation.
pub const READY: &str = "Ready";
/// Of a CacheCluster: etcd has a leader, every wanted voter answers and its pod is ready. For an
/// external etcd: it answers.
pub const ETCD_READY: &str = "EtcdReady";
/// Of a CacheCluster: as many members as wanted are ready and run the newest template.
pub const MEMBERS_READY: &str = "MembersReady";
/// Of a CacheGroup: its fields are valid, and its cluster and its Secret exist.
pub const ACCEPTED: &str = "Accepted";
/// Of a CacheGroup: the contract of its newest generation is in the registry, and its credential is
/// in the members' Secret.
pub const WRITTEN: &str = "Written";
