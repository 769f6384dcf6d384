//! Why a read or an invalidation brought no answer. `grpc/status.rs` words these for the wire.

use std::sync::Arc;
use std::time::Duration;

use tonic::Code;

use crate::origin;

/// Cheap to clone: every waiter of a flight gets one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No key.
    #[error("the key is empty")]
    EmptyKey,
    /// Longer than configured.
    #[error("the key has {bytes} bytes, more than the limit of {max}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More keys in one request than configured.
    #[error("the request has {keys} keys, more than the limit of {max}")]
    TooManyKeys {
        /// How many.
        keys: usize,
        /// The limit.
        max: usize,
    },
    /// Nobody described the group.
    #[error("group {group:?} is unknown here: apply a CacheGroup of this name to the cluster")]
    UnknownGroup {
        /// Its name.
        group: String,
    },
    /// The member has not seen the registry yet and cannot know groups or owners.
    #[error("the member has not joined the cluster yet")]
    NotJoined,
    /// As many requests wait as may.
    #[error("{max} requests wait already")]
    Overloaded {
        /// The limit.
        max: usize,
    },
    /// The answers so far fill the response; ask for this key again.
    #[error("the response is full: ask for this key again")]
    ResponseFull,
    /// The caller's deadline passed; the load goes on.
    #[error("no answer of {awaited} within the request's deadline")]
    Deadline {
        /// Whose answer did not come.
        awaited: Awaited,
    },
    /// The origin failed, and there is nothing that may be answered in its place.
    #[error("the origin of group {group:?} failed: {source}")]
    Origin {
        /// The group.
        group: Arc<str>,
        /// Why.
        #[source]
        source: Arc<origin::Error>,
    },
    /// The group's origin cannot be used as it is described.
    #[error("the origin of group {group:?} cannot be used: {problem}")]
    BrokenGroup {
        /// The group.
        group: Arc<str>,
        /// What is wrong.
        problem: Arc<str>,
    },
    /// The loader panicked; the next read tries again.
    #[error("the loader of group {group:?} panicked")]
    Panicked {
        /// The group.
        group: Arc<str>,
    },
    /// The origin's value is larger than configured.
    #[error("the value has {bytes} bytes, more than the limit of {max}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The load ended without an outcome: the member is stopping.
    #[error("the member is stopping")]
    Stopping,
    /// The key's owner answered with an error.
    #[error("{message}")]
    AtOwner {
        /// The owner's code.
        code: Code,
        /// The owner's text.
        message: Arc<str>,
        /// The owner's reason, as `grpc/status.rs` words it.
        reason: Arc<str>,
        /// When the owner would like to be asked again.
        retry_after: Option<Duration>,
    },
    /// The key's owner gave no answer, and this member, in its place, failed too.
    #[error("the key's owner {owner} does not answer; in its place: {source}")]
    OwnerSilent {
        /// The owner.
        owner: Arc<str>,
        /// Why this member could not stand in.
        #[source]
        source: Box<Error>,
    },
}

/// Whose answer a read waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// This member loads the key.
    Origin,
    /// Another member owns the key.
    Owner,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Origin => "the origin",
            Self::Owner => "the key's owner",
        })
    }
}

impl Error {
    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EmptyKey => "empty_key",
            Self::KeyTooLong { .. } => "key_too_long",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::UnknownGroup { .. } => "unknown_group",
            Self::NotJoined => "not_joined",
            Self::Overloaded { .. } => "overloaded",
            Self::ResponseFull => "response_full",
            Self::Deadline { .. } => "deadline",
            Self::Origin { .. } => "origin",
            Self::BrokenGroup { .. } => "broken_group",
            Self::Panicked { .. } => "panicked",
            Self::ValueTooLarge { .. } => "value_too_large",
            Self::Stopping => "stopping",
            Self::AtOwner { .. } => "at_owner",
            Self::OwnerSilent { .. } => "owner_silent",
        }
    }
}
