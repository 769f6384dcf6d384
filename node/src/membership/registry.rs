//! The few calls that membership makes to a registry, so that a simulation can replace etcd.
//!
//! The implementation gives every call a deadline and returns an error when it passes.

use futures::future::BoxFuture;

/// Lease of a key that never expires.
pub const NO_LEASE: i64 = 0;

/// A registry call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be opened.
    #[error("cannot connect to the registry")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The certificates for the connection are unusable.
    #[error("the certificates for the registry are unusable")]
    Certificates(#[source] larder_runtime::tls::Error),
    /// A call returned an error.
    #[error("the registry failed to {what}")]
    Call {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call timed out.
    #[error("the registry did not {what} in time")]
    Silent {
        /// What was attempted.
        what: &'static str,
    },
    /// The watch stream ended.
    #[error("the registry ended the watch")]
    Ended,
    /// Others kept changing this member's key between reading and writing it.
    #[error("this member's registration kept changing while it was written")]
    Contended,
}

/// Opens connections to a registry, one for each [`Session`].
pub trait RegistryClient: Send + Sync + 'static {
    /// Opens a session.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Error>>;
}

/// One connection. Dropped after its first error.
pub trait Session: Send + Sync {
    /// Grants a lease of at least `ttl_s` seconds and returns its id.
    fn grant(&self, ttl_s: u64) -> BoxFuture<'_, Result<i64, Error>>;
    /// Renews a lease; false if it no longer exists.
    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<bool, Error>>;
    /// Revokes a lease. Not an error if it no longer exists.
    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// Reads one key.
    fn get<'s>(&'s self, key: &'s str) -> BoxFuture<'s, Result<Option<StoredValue>, Error>>;
    /// Atomically puts a key under a lease, or under [`NO_LEASE`], if its last write was at
    /// revision `expected` (0: if the key does not exist). Returns the new revision, or `None` if
    /// the condition failed.
    fn put_if<'s>(
        &'s self,
        key: &'s str,
        value: Vec<u8>,
        lease: i64,
        expected: u64,
    ) -> BoxFuture<'s, Result<Option<u64>, Error>>;
    /// Reads every key that begins with `prefix`.
    fn list<'s>(&'s self, prefix: &'s str) -> BoxFuture<'s, Result<Listing, Error>>;
    /// Watches every key that begins with `prefix`, starting at `revision`.
    fn watch<'s>(
        &'s self,
        prefix: &'s str,
        revision: u64,
    ) -> BoxFuture<'s, Result<Box<dyn Feed>, Error>>;
}

/// A running watch.
pub trait Feed: Send {
    /// The next message. Waits without a limit.
    ///
    /// # Cancel safety
    /// No message is lost.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, Error>>;
    /// Requests [`WatchMessage::Progress`], which serves as the watch's heartbeat.
    fn request_progress(&mut self) -> BoxFuture<'_, Result<(), Error>>;
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The bytes as stored.
    pub value: Vec<u8>,
    /// Revision of its last change.
    pub revision: u64,
}

/// Everything under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Id of the etcd cluster that answered.
    pub cluster: u64,
    /// The revision at which it was read.
    pub revision: u64,
    /// Keys and values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// The watch is established.
    Began {
        /// Id of the etcd cluster that answers.
        cluster: u64,
        /// The registry's revision at that time.
        revision: u64,
    },
    /// Keys changed, in order.
    Changes(Vec<KeyChange>),
    /// Every change up to a revision was delivered.
    Progress {
        /// That revision.
        revision: u64,
    },
    /// The start of the watch was compacted: list again.
    Compacted,
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The whole key.
    pub key: Vec<u8>,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Vec<u8>>,
    /// The revision of the change.
    pub revision: u64,
}
