//! Why a read or an invalidation failed. `status.rs` maps these errors to the wire.

use std::sync::Arc;
use std::time::Duration;

use larder_proto::v1::StaleReason;

use crate::metrics::OriginRefusal;
use crate::origin::{self, TagError};

/// Cheap to clone: every waiter of a flight gets one.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages explain the fields")]
pub enum Error {
    /// The request has an empty key.
    #[error("the key is empty")]
    EmptyKey,
    /// The key is longer than the configured limit.
    #[error("the key has {bytes} bytes, more than the limit of {max}")]
    KeyTooLong { bytes: usize, max: usize },
    /// The request has more keys than the configured limit.
    #[error("the request has {keys} keys, more than the limit of {max}")]
    TooManyKeys { keys: usize, max: usize },
    /// The tags of an invalidation are invalid.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// No contract for the group is known.
    #[error("unknown group {group:?}: apply a CacheGroup of this name to the cluster")]
    UnknownGroup { group: String },
    /// The member has not read the registry yet, so it knows neither groups nor owners.
    #[error("the member has not joined the cluster yet")]
    NotJoined,
    /// The number of waiting requests, or of keys in flight, is at its limit.
    #[error("too many requests wait already: the limit is {max}")]
    Overloaded { max: usize },
    /// The other answers fill the response.
    #[error("the response is full: request this key again")]
    ResponseFull,
    /// The caller's deadline passed. The load continues.
    #[error("{awaited} did not answer within the request's deadline")]
    Deadline { awaited: Awaited },
    /// The origin failed, and no entry may be answered in its place.
    #[error("the origin of group {group:?} failed: {source}")]
    Origin {
        group: Arc<str>,
        #[source]
        source: Arc<origin::Error>,
    },
    /// The group's loader could not be built from its contract.
    #[error("the origin of group {group:?} is misconfigured: {problem}")]
    BrokenGroup { group: Arc<str>, problem: Arc<str> },
    /// The loader panicked. The next read tries again.
    #[error("the loader of group {group:?} panicked")]
    Panicked { group: Arc<str> },
    /// The loaded value is larger than the configured limit.
    #[error("the value has {bytes} bytes, more than the limit of {max}")]
    ValueTooLarge { bytes: usize, max: usize },
    /// The load ended without a result because the member is stopping.
    #[error("the member is stopping")]
    Stopping,
    /// The key's owner returned an error. `code` is its google.rpc.Code number, `reason` its
    /// `ErrorInfo` reason.
    #[error("{message}")]
    AtOwner { code: i32, message: Arc<str>, reason: Arc<str>, retry_after: Option<Duration> },
    /// The key's owner gave no answer, and this member failed in its place.
    #[error("the key's owner {owner} does not answer, and this member failed too: {source}")]
    OwnerSilent {
        owner: Arc<str>,
        #[source]
        source: Box<Error>,
    },
}

/// What a read waits for.
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
    /// The metric label and the reason of a stale answer, if the origin's guard refused the load.
    pub(super) fn guard_refusal(&self) -> Option<(OriginRefusal, StaleReason)> {
        let Self::Origin { source, .. } = self else { return None };
        Some(match **source {
            origin::Error::Suspended { .. } => {
                (OriginRefusal::Suspended, StaleReason::OriginSuspended)
            }
            origin::Error::RateLimited { .. } => {
                (OriginRefusal::RateLimited, StaleReason::RateLimited)
            }
            origin::Error::Busy { .. } => (OriginRefusal::Busy, StaleReason::OriginBusy),
            origin::Error::Overloaded { .. } => {
                (OriginRefusal::Overloaded, StaleReason::OriginOverloaded)
            }
            _ => return None,
        })
    }

    /// The reason of a stale answer in place of this error.
    pub(super) fn stale_reason(&self) -> StaleReason {
        match self {
            Self::Deadline { .. } => StaleReason::Deadline,
            Self::Overloaded { .. } | Self::Stopping => StaleReason::Overloaded,
            _ => self.guard_refusal().map_or(StaleReason::OriginFailed, |(_, reason)| reason),
        }
    }

    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EmptyKey => "empty_key",
            Self::KeyTooLong { .. } => "key_too_long",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::Tags(_) => "tags",
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
