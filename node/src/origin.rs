//! Where values come from on a miss: a [`Loader`], which is a trait, a plain function
//! ([`from_fn`]), or what a CacheGroup names ([`build`]): `sql` or `http`, behind a [`Bulkhead`].
//!
//! A loader says *absent* apart from an empty value and from an error. It never caches, never
//! retries and keeps no key; deadlines of callers are not its concern, only its own limit.
//! Nothing here writes a credential to a log or an error.

mod bulkhead;
mod credentials;
mod http;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use larder_proto::contract::{Origin, OriginLimits};

pub use self::bulkhead::Bulkhead;
pub use self::credentials::Credentials;
pub use self::http::HttpLoader;
pub use self::sql::SqlLoader;

/// What an origin says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The key's value; it may be empty.
    Value(Bytes),
    /// There is no such key.
    Absent,
}

/// Loads one key at a time from somewhere.
///
/// # Cancel safety
/// A load may be dropped at any await, and must not hurt those that come after it.
pub trait Loader: Send + Sync {
    /// Loads `key`.
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>>;

    /// Gets ready for the first load, in the background: called on a runtime when a member installs
    /// the group. Says in the log what will make loads fail.
    fn warm(&self) {}

    /// What keeps loads waiting now, if it is not the origin's answer: told when a load did not
    /// end in time.
    fn pending(&self) -> Option<String> {
        None
    }
}

/// A load failed, or an origin cannot be used as it is described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The statement of a `sql` origin cannot be used.
    #[error("the query cannot be used: {problem}")]
    Statement {
        /// Why not.
        problem: String,
    },
    /// The URL template of an `http` origin cannot be used.
    #[error("the URL template cannot be used: {problem}")]
    Template {
        /// Why not.
        problem: String,
    },
    /// A credential cannot be read; its text is never shown.
    #[error("the credential {file:?} cannot be read")]
    Credential {
        /// Name of the file in the credentials folder.
        file: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A credential is not a URL that can be used; its text is never shown.
    #[error("the credential {file:?} cannot be used: {problem}")]
    Url {
        /// Name of the file in the credentials folder.
        file: String,
        /// Why not.
        problem: &'static str,
    },
    /// No connection to the origin.
    #[error("no connection to {place}: {problem}")]
    Connect {
        /// Host and port, or what else tells the place without a secret.
        place: String,
        /// Why not.
        problem: String,
    },
    /// The database is there and does not let this member in.
    #[error(
        "{place} refuses the login: {problem} (check the Secret that the CacheGroup's urlSecretRef \
         names)"
    )]
    Login {
        /// Host and port.
        place: String,
        /// The database's own words.
        problem: String,
    },
    /// The database cannot use the query.
    #[error("the query fails: {problem} (check the CacheGroup's query)")]
    Query {
        /// The database's own words.
        problem: String,
    },
    /// The origin was reached and the load failed.
    #[error("the origin failed to answer: {problem}")]
    Ask {
        /// Why.
        problem: String,
    },
    /// An HTTP origin answered neither 200 nor 404.
    #[error("the origin answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The value is larger than this member keeps.
    #[error("the value is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// The value is of a type that has no bytes.
    #[error("a value of type {type_name} has no form as bytes: cast it to text in the query")]
    Type {
        /// The database's name of the type.
        type_name: String,
    },
    /// The key cannot stand in the URL.
    #[error("the key cannot stand in the URL")]
    Key,
    /// As many loads wait as may, or one waited too long.
    #[error("the origin is busy: {concurrency} loads run already")]
    Busy {
        /// Loads that may run at one time.
        concurrency: u32,
        /// When there may be room again.
        retry_after: Duration,
    },
    /// The load did not end in time.
    #[error("{} within {timeout_ms} ms", pending.as_deref().unwrap_or("the origin did not answer"))]
    TimedOut {
        /// The limit.
        timeout_ms: u64,
        /// What it waited for, if not for the origin's answer.
        pending: Option<String>,
    },
    /// A loader of the embedding program failed.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An error of an embedding program's own loader.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Statement { .. } => "statement",
            Self::Template { .. } => "template",
            Self::Credential { .. } => "credential",
            Self::Url { .. } => "url",
            Self::Connect { .. } => "connect",
            Self::Login { .. } => "login",
            Self::Query { .. } => "query",
            Self::Ask { .. } => "ask",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Type { .. } => "type",
            Self::Key => "key",
            Self::Busy { .. } => "busy",
            Self::TimedOut { .. } => "timed_out",
            Self::Other(_) => "other",
        }
    }
}

/// Makes the loader that a contract describes, behind its bulkhead. Connects to nothing yet.
///
/// # Errors
/// What is wrong with the description: a statement without exactly one parameter, a template that
/// is no URL. A missing credential is an error of each load, because it may still arrive.
pub fn build(
    origin: &Origin,
    limits: &OriginLimits,
    credentials: &Credentials,
    max_value_bytes: usize,
) -> Result<Arc<dyn Loader>, Error> {
    let loader: Arc<dyn Loader> = match origin {
        Origin::Sql(sql) => Arc::new(SqlLoader::new(sql, limits, credentials, max_value_bytes)?),
        Origin::Http(http) => Arc::new(HttpLoader::new(http, limits, max_value_bytes)?),
    };
    Ok(Arc::new(Bulkhead::new(loader, limits)))
}

/// Makes a loader of a function from a key to what is known of it.
///
/// ```
/// use larder_node::origin::{Loaded, from_fn};
///
/// let loader = from_fn(|key: bytes::Bytes| async move {
///     if key == "Tom" { Ok(Loaded::Value("630".into())) } else { Ok(Loaded::Absent) }
/// });
/// # let _: &dyn larder_node::origin::Loader = &loader;
/// ```
pub fn from_fn<F, Load>(load: F) -> FromFn<F>
where
    F: Fn(Bytes) -> Load + Send + Sync,
    Load: Future<Output = Result<Loaded, Error>> + Send + 'static,
{
    FromFn(load)
}

/// See [`from_fn`].
#[derive(Debug, Clone)]
pub struct FromFn<F>(F);

impl<F, Load> Loader for FromFn<F>
where
    F: Fn(Bytes) -> Load + Send + Sync,
    Load: Future<Output = Result<Loaded, Error>> + Send + 'static,
{
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        Box::pin((self.0)(Bytes::copy_from_slice(key)))
    }
}
