//! Owns the operations that the operator needs of an etcd cluster: the status of a member, one
//! change of membership at a time, and the keys of one CacheCluster's registry.
//!
//! It decides nothing (`cluster::plan` does) and keeps no connection: a reconcile makes a handful
//! of calls, and a new connection cannot be stuck on a dead pod. Start at [`EtcdAdmin`];
//! [`adapter`] implements it for a real etcd.

pub mod adapter;

use std::sync::Arc;

use futures::future::BoxFuture;
use larder_runtime::tls::Pem;

/// The client URL of one etcd member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
}

/// The endpoints of one etcd cluster and the certificates for them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Endpoints, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Certificates for `https`.
    pub tls: Option<Arc<Pem>>,
}

/// The status of one member, with the member list as that member knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Identity of the etcd cluster.
    pub cluster_id: u64,
    /// Identity of this member.
    pub member_id: u64,
    /// Identity of the leader that it follows; 0 when it knows none.
    pub leader: u64,
    /// The member has no vote.
    pub learner: bool,
    /// Applied raft index. Of several statuses the one with the highest is the newest.
    pub applied: u64,
    /// Alarms and other errors, in etcd's words.
    pub errors: Vec<String>,
    /// The member list as applied here; empty for a learner, which does not return it.
    pub members: Vec<Record>,
}

/// One line of the member list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Identity that etcd assigned.
    pub id: u64,
    /// Name; empty until the member has started once.
    pub name: String,
    /// URL at which the other members reach it.
    pub peer_url: String,
    /// The member has no vote.
    pub learner: bool,
}

/// Keys under one prefix, read through a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Identity of the etcd cluster, which changes when it is rebuilt.
    pub cluster_id: u64,
    /// Revision of the whole store.
    pub revision: i64,
    /// The keys, in order.
    pub entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Revision of the last change.
    pub changed: i64,
}

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Entry`")]
pub enum Change {
    /// Sets the key.
    Put { key: String, value: Vec<u8> },
    /// Deletes the key unless it was changed after revision `changed`.
    DeleteUnchanged { key: String, changed: i64 },
}

/// Operations on an etcd cluster. Each has its own deadline and can be repeated: a change that is
/// already made succeeds.
///
/// # Cancel safety
/// A cancelled change may or may not have been made; repeat it.
pub trait EtcdAdmin: Send + Sync {
    /// Reads one member's status and member list, without a quorum.
    fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        tls: Option<&'a Pem>,
    ) -> BoxFuture<'a, Result<MemberStatus, Error>>;

    /// Adds a member without a vote; succeeds when a member with that peer URL exists.
    fn add_learner<'a>(
        &'a self,
        access: &'a Access,
        peer_url: &'a str,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Makes a learner a voter; fails with [`Error::NotYet`] until it has caught up.
    fn promote<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes a member for good; succeeds when it is already gone.
    fn remove<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>>;

    /// Reads every key under `prefix` through a quorum.
    fn list<'a>(
        &'a self,
        access: &'a Access,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Listing, Error>>;

    /// Makes one change; returns the store's revision afterwards.
    fn change<'a>(
        &'a self,
        access: &'a Access,
        change: Change,
    ) -> BoxFuture<'a, Result<i64, Error>>;
}

/// Why an operation failed. `what` is the operation, as in "list keys".
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// No endpoint is known: no member answers, or none is ready.
    #[error("no etcd member answers")]
    NoEndpoint,
    /// The certificates cannot be used.
    #[error("the certificates for etcd cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the deadline.
    #[error("could not {what} at etcd {endpoint} in time")]
    Deadline { what: &'static str, endpoint: String },
    /// Refused for now; the same call may succeed later.
    #[error("etcd does not {what} yet")]
    NotYet { what: &'static str, source: Box<etcd_client::Error> },
    /// Any other error.
    #[error("could not {what} at etcd {endpoint}")]
    Call { what: &'static str, endpoint: String, source: Box<etcd_client::Error> },
}
