//! Owns the names of conditions. A condition is always present from the first reconcile on, with
//! the generation that it speaks of; the reasons stand beside the code that finds them.

/// The whole: every other condition of the object is true for its newest generation.
pub const READY: &str = "Ready";
/// Of a CacheCluster: etcd has a leader, every wanted voter is there and answers; for an external
/// etcd, that it answers.
pub const ETCD_READY: &str = "EtcdReady";
/// Of a CacheCluster: as many members as wanted are ready and run the newest template.
pub const MEMBERS_READY: &str = "MembersReady";
/// Of a CacheGroup: its cluster and its Secret exist and its fields are valid.
pub const ACCEPTED: &str = "Accepted";
/// Of a CacheGroup: its contract of the newest generation stands in the registry and its credential
/// in the members' Secret.
pub const WRITTEN: &str = "Written";
