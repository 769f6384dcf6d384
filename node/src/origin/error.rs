//! Why a load failed, or why an origin cannot be used as described.

use std::sync::Arc;
use std::time::Duration;

use super::tags::TagError;

/// The texts name hosts, tables and limits, never a credential or a URL.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages explain the fields")]
pub enum Error {
    /// The statement of a `sql` origin is invalid.
    #[error("the query is invalid: {problem}")]
    Statement { problem: String },
    /// The statement with which a `sql` origin loads several keys is invalid.
    #[error("the batch query is invalid: {problem}")]
    BatchStatement { problem: String },
    /// The batch query of a `sql` origin has no column of this name after its first one.
    #[error(
        "the batch query has no column {column:?} after the value (check the CacheGroup's \
         batch.keyColumn)"
    )]
    KeyColumn { column: String },
    /// The answer of an `http` origin to a request for several keys cannot be used.
    #[error("{place} answered several keys with an unusable body: {problem}")]
    BatchBody { place: String, problem: String },
    /// The name of the header with the tags is invalid.
    #[error("the tagsHeader {name:?} is not the name of a header")]
    TagsHeader { name: String },
    /// The query of a `sql` origin has no column of this name after its first one.
    #[error(
        "the query has no column {column:?} after the value (check the CacheGroup's tagsColumn)"
    )]
    TagsColumn { column: String },
    /// The URL template of an `http` origin is invalid.
    #[error("the URL template is invalid: {problem}")]
    Template { problem: String },
    /// The URL with which an `http` origin loads several keys is invalid.
    #[error("the batch URL is invalid: {problem}")]
    BatchUrl { problem: String },
    /// The file of a credential is missing or unreadable.
    #[error("cannot read the credential {file:?}")]
    Credential {
        file: String,
        #[source]
        source: std::io::Error,
    },
    /// A credential is not a usable URL.
    #[error("the credential {file:?} is unusable: {problem}")]
    Url { file: String, problem: &'static str },
    /// No connection to the origin. `place` is its host and port, or a name without a secret.
    #[error("no connection to {place}: {problem}")]
    Connect { place: String, problem: String },
    /// The database was reached and refuses the login. `problem` is the database's text.
    #[error(
        "{place} refuses the login: {problem} (check the Secret that the CacheGroup's urlSecretRef \
         names)"
    )]
    Login { place: String, problem: String },
    /// The database rejects the query. `problem` is the database's text.
    #[error("the query fails: {problem} (check the CacheGroup's query)")]
    Query { problem: String },
    /// The origin was reached, and the load failed.
    #[error("{place} failed to answer: {problem}")]
    Ask { place: String, problem: String },
    /// An HTTP origin answered neither 200 nor 404.
    #[error("{place} answered with status {status}")]
    Status { place: String, status: u16 },
    /// The value is larger than the member's limit.
    #[error("the value is larger than {max} bytes")]
    TooLarge { max: usize },
    /// The tags of the value are invalid. The value cannot be used without them: an invalidation
    /// by one of them would miss it.
    #[error("the tags of the value are invalid: {0}")]
    Tags(TagError),
    /// The value is of a type without a form as bytes.
    #[error("a value of type {type_name} has no form as bytes: cast it to text in the query")]
    Type { type_name: String },
    /// The URL template cannot express the key.
    #[error("the key cannot be part of the URL: it would change the path")]
    Key,
    /// Several loads in a row failed, and it is not yet time for the next probe.
    #[error("{last} ({failures} loads failed in a row, so the origin is asked once a second)")]
    Suspended { last: Arc<Error>, failures: u32, retry_after: Duration },
    /// The bucket of loads is empty.
    #[error("the limit of {loads_per_second} loads per second is reached")]
    RateLimited { loads_per_second: u32, retry_after: Duration },
    /// The queue of the bulkhead is full, or the wait in it exceeds the time of a load.
    #[error("the origin is busy: {concurrency} loads run already")]
    Busy { concurrency: u32, retry_after: Duration },
    /// Loads arrive faster than they end, so this one would have waited too long.
    #[error(
        "the origin is overloaded: a load takes {} ms, and this one would wait {} ms for a slot",
        load_time.as_millis(), wait.as_millis()
    )]
    Overloaded { wait: Duration, load_time: Duration, retry_after: Duration },
    /// The load timed out. `pending` is what it waited for, if not for the origin's answer.
    #[error("{} within {timeout_ms} ms", pending.as_deref().unwrap_or("the origin did not answer"))]
    TimedOut { timeout_ms: u64, pending: Option<String> },
    /// A loader of the embedding program failed.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// What an error says about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The origin as a whole: the next load of another key would fail too.
    Origin,
    /// One key: the origin answered, so it works.
    Key,
    /// Neither: the origin was not asked.
    Nobody,
}

impl Error {
    /// What the error says about.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::TooLarge { .. } | Self::Type { .. } | Self::Tags(_) => Blame::Key,
            Self::Status { status, .. } if is_about_key(*status) => Blame::Key,
            Self::Key
            | Self::Suspended { .. }
            | Self::RateLimited { .. }
            | Self::Busy { .. }
            | Self::Overloaded { .. } => Blame::Nobody,
            Self::Statement { .. }
            | Self::BatchStatement { .. }
            | Self::KeyColumn { .. }
            | Self::BatchUrl { .. }
            | Self::BatchBody { .. }
            | Self::Template { .. }
            | Self::TagsHeader { .. }
            | Self::TagsColumn { .. }
            | Self::Credential { .. }
            | Self::Url { .. }
            | Self::Connect { .. }
            | Self::Login { .. }
            | Self::Query { .. }
            | Self::Ask { .. }
            | Self::Status { .. }
            | Self::TimedOut { .. }
            | Self::Other(_) => Blame::Origin,
        }
    }

    /// The error of an embedding program's loader.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Statement { .. } => "statement",
            Self::BatchStatement { .. } => "batch_statement",
            Self::KeyColumn { .. } => "key_column",
            Self::BatchUrl { .. } => "batch_url",
            Self::BatchBody { .. } => "batch_body",
            Self::Template { .. } => "template",
            Self::TagsHeader { .. } => "tags_header",
            Self::TagsColumn { .. } => "tags_column",
            Self::Credential { .. } => "credential",
            Self::Url { .. } => "url",
            Self::Connect { .. } => "connect",
            Self::Login { .. } => "login",
            Self::Query { .. } => "query",
            Self::Ask { .. } => "ask",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Type { .. } => "type",
            Self::Tags(_) => "tags",
            Self::Key => "key",
            Self::Suspended { .. } => "suspended",
            Self::RateLimited { .. } => "rate_limited",
            Self::Busy { .. } => "busy",
            Self::Overloaded { .. } => "overloaded",
            Self::TimedOut { .. } => "timed_out",
            Self::Other(_) => "other",
        }
    }
}

/// True for a client error of HTTP, except those that any key would get: 401, 403 and 407 are about
/// credentials, 408 and 429 about load.
fn is_about_key(status: u16) -> bool {
    (400..500).contains(&status) && ![401, 403, 407, 408, 429].contains(&status)
}
