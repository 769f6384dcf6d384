//! Owns what the operator may ask of an etcd cluster: who its members are, whether they answer,
//! one change of its membership at a time, and the keys of one cluster's registry.
//!
//! It decides nothing (that is `cluster::plan`) and never keeps a connection: a reconcile asks a
//! handful of questions, and a fresh connection cannot be stuck on a dead pod. Start at
//! [`EtcdAdmin`]; [`adapter`] is the one that speaks to a real etcd.

pub mod adapter;

use std::sync::Arc;

use futures::future::BoxFuture;
use larder_runtime::tls::Pem;

/// Where one member of etcd answers clients.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
}

/// One or more endpoints of one etcd cluster, with what it takes to talk to them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Endpoints in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Certificates for `https`.
    pub tls: Option<Arc<Pem>>,
}

/// What one member says of itself and of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Identity of the etcd cluster.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The leader that it follows; 0 when it knows of none.
    pub leader: u64,
    /// It follows without a vote.
    pub learner: bool,
    /// Raft entries that it has applied; the highest of several answers is the newest.
    pub applied: u64,
    /// Alarms and the like, in etcd's words.
    pub troubles: Vec<String>,
    /// The members as it has applied them; a learner tells none.
    pub members: Vec<Record>,
}

/// One line of the member list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Identity that etcd gave it.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers find it.
    pub peer_url: String,
    /// It follows without a vote.
    pub learner: bool,
}

/// Keys under one prefix, read through a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Identity of the etcd cluster; another one after it was rebuilt.
    pub cluster_id: u64,
    /// Revision of the whole store.
    pub revision: i64,
    /// In key order.
    pub entries: Vec<Entry>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// Revision of its last change.
    pub changed: i64,
}

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the key.
    Put {
        /// The whole key.
        key: String,
        /// The new value.
        value: Vec<u8>,
    },
    /// Deletes the key if nobody has changed it since revision `changed`.
    DeleteUnchanged {
        /// The whole key.
        key: String,
        /// As read.
        changed: i64,
    },
}

/// What may be asked of etcd. Each call has a deadline of its own and may be repeated: a change
/// that stands already succeeds.
///
/// # Cancel safety
/// A cancelled change may or may not have happened; ask again.
pub trait EtcdAdmin: Send + Sync {
    /// Asks one member for its state and for the member list as it knows it, without a quorum.
    fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        tls: Option<&'a Pem>,
    ) -> BoxFuture<'a, Result<Answer, Error>>;

    /// Adds a member without a vote; a member with that peer URL may be there already.
    fn add_learner<'a>(
        &'a self,
        access: &'a Access,
        peer_url: &'a str,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Gives a learner its vote; etcd refuses with [`Error::NotYet`] until it has caught up.
    fn promote<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes a member for good; it may be gone already.
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

/// Why etcd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody to ask.
    #[error("no etcd member answers")]
    Nobody,
    /// The certificates cannot be used.
    #[error("the certificates for etcd cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the deadline.
    #[error("etcd did not {what} in time at {endpoint}")]
    Deadline {
        /// What was asked.
        what: &'static str,
        /// Who was asked.
        endpoint: String,
    },
    /// Refused for now; the same call may succeed later.
    #[error("etcd will not {what} yet")]
    NotYet {
        /// What was asked.
        what: &'static str,
        /// In etcd's words.
        #[source]
        source: Box<etcd_client::Error>,
    },
    /// Anything else.
    #[error("etcd did not {what} at {endpoint}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// Who was asked.
        endpoint: String,
        /// In etcd's words.
        #[source]
        source: Box<etcd_client::Error>,
    },
}

impl Error {
    /// A stable word for metrics and events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nobody => "etcd_nobody",
            Self::Tls(_) => "etcd_tls",
            Self::Deadline { .. } => "etcd_deadline",
            Self::NotYet { .. } => "etcd_not_yet",
            Self::Call { .. } => "etcd_call",
        }
    }
}
