//! What membership needs of a registry: few calls, so that a simulation can stand in for etcd.
//!
//! Every call has a deadline of the implementation's own and gives an error when it passes.

use futures::future::BoxFuture;

/// A registry call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made ready.
    #[error("the registry cannot be connected to")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The certificates for the connection cannot be used.
    #[error("the registry's certificates cannot be used")]
    Certificates(#[source] larder_runtime::tls::Error),
    /// A call was answered with an error.
    #[error("the registry failed to {what}")]
    Call {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call was not answered in time.
    #[error("the registry did not {what} in time")]
    Silent {
        /// What was attempted.
        what: &'static str,
    },
    /// A stream ended.
    #[error("the registry ended the watch")]
    Ended,
    /// Others kept changing our key between reading and writing it.
    #[error("our registration changed while it was written")]
    Contended,
}

/// A registry, connected to anew for each [`Session`].
pub trait Registry: Send + Sync + 'static {
    /// Opens a session.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Error>>;
}

/// One connection. Dropped after its first error.
pub trait Session: Send + Sync {
    /// Grants a lease of `ttl_s` seconds or a little more and gives its id.
    fn grant(&self, ttl_s: u64) -> BoxFuture<'_, Result<i64, Error>>;
    /// Renews a lease; false when it does not stand any more.
    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<bool, Error>>;
    /// Ends a lease, also one that does not stand any more.
    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// Reads one key.
    fn get<'s>(&'s self, key: &'s str) -> BoxFuture<'s, Result<Option<Held>, Error>>;
    /// Puts a key under a lease if it was last written at `expected` (0: if it is missing), in
    /// one step. Gives the new revision, or nothing when it was not so.
    fn put_if<'s>(
        &'s self,
        key: &'s str,
        value: Vec<u8>,
        lease: i64,
        expected: u64,
    ) -> BoxFuture<'s, Result<Option<u64>, Error>>;
    /// Reads every key that begins with `prefix`.
    fn list<'s>(&'s self, prefix: &'s str) -> BoxFuture<'s, Result<Listing, Error>>;
    /// Watches every key that begins with `prefix`, from `revision` on.
    fn watch<'s>(
        &'s self,
        prefix: &'s str,
        revision: u64,
    ) -> BoxFuture<'s, Result<Box<dyn Feed>, Error>>;
}

/// A running watch.
pub trait Feed: Send {
    /// The next message. Waits for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    fn next(&mut self) -> BoxFuture<'_, Result<Told, Error>>;
    /// Asks for [`Told::Progress`]: the watch's own heartbeat.
    fn request_progress(&mut self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The value.
    pub value: Vec<u8>,
    /// Revision of its last change.
    pub revision: u64,
}

/// Everything under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which cluster of registries answered.
    pub cluster: u64,
    /// The revision at which it was read.
    pub revision: u64,
    /// Keys and values.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The watch runs; the registry was at this revision.
    Began {
        /// The registry's revision.
        revision: u64,
    },
    /// Keys changed, in order.
    Changes(Vec<KeyChange>),
    /// Everything up to this revision was told.
    Progress {
        /// The registry's revision.
        revision: u64,
    },
    /// The start of the watch is compacted away: list again.
    Compacted,
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Its name.
    pub key: Vec<u8>,
    /// Its value, or nothing when it was deleted.
    pub value: Option<Vec<u8>>,
    /// The revision of the change.
    pub revision: u64,
}
