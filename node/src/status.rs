//! The one table from errors to what callers see: gRPC code, reason, HTTP status, and when to
//! retry.
//!
//! Absent is an answer, not an error, but unary callers see it as NOT_FOUND; [`absent`] makes that
//! status. Every error status carries a `google.rpc.ErrorInfo` with the reason. An overload says
//! when to retry in both forms that clients read: `google.rpc.RetryInfo`, and the trailer of gRFC
//! A6, which stock clients with a retry policy obey. Start at [`ErrorReply`].

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use larder_proto::v1::{FetchResult, KeyResult, Outcome};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::cache::{Awaited, Error};
use crate::origin::{self, TagError};

/// `ErrorInfo.domain`: the namespace of the reasons.
const DOMAIN: &str = "larder.dev";
/// Trailer in which a server says when to retry. Source: gRFC A6, "Pushback".
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// When to retry at a member that has too many waiting requests: about as long as a load takes,
/// whose end makes room.
const OVERLOAD_RETRY: Duration = Duration::from_millis(100);
/// When to retry over HTTP after another failure: a failing origin is probed once a second.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// An error as a caller sees it, before it is encoded for one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The gRPC code.
    pub code: Code,
    /// Identifies the error for programs. A contract: docs/reference/errors.md has the table. Empty
    /// if none is known.
    pub reason: String,
    /// The text for people.
    pub message: String,
    /// When to retry. Known for every overload.
    pub retry_after: Option<Duration>,
}

impl From<&Error> for ErrorReply {
    fn from(error: &Error) -> Self {
        Self {
            code: code(error),
            reason: reason(error).to_owned(),
            message: error.to_string(),
            retry_after: retry_after(error),
        }
    }
}

impl From<Error> for ErrorReply {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl ErrorReply {
    /// [`ErrorReply::retry_after`] as the wire has it: whole milliseconds, 0 for none.
    #[must_use]
    pub fn retry_after_ms(&self) -> u32 {
        let ms = |after: Duration| u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1);
        self.retry_after.map_or(0, ms)
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        http_status(self.code)
    }

    /// Seconds for HTTP's `Retry-After`, with 429 and 503.
    #[must_use]
    pub fn http_retry_after(&self) -> Option<u64> {
        let unavailable = (self.code == Code::Unavailable).then_some(UNAVAILABLE_RETRY);
        let after = self.retry_after.or(unavailable)?;
        Some(after.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
    }
}

impl From<ErrorReply> for Status {
    fn from(error: ErrorReply) -> Self {
        let mut details = ErrorDetails::new();
        let mut metadata = MetadataMap::new();
        if !error.reason.is_empty() {
            details.set_error_info(&error.reason, DOMAIN, HashMap::new());
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
            metadata.insert(PUSHBACK, error.retry_after_ms().into());
        }
        Self::with_error_details_and_metadata(error.code, error.message, details, metadata)
    }
}

impl From<ErrorReply> for KeyResult {
    fn from(error: ErrorReply) -> Self {
        Self {
            outcome: Outcome::Error.into(),
            code: error.code.into(),
            retry_after_ms: error.retry_after_ms(),
            message: error.message,
            reason: error.reason,
            ..Self::default()
        }
    }
}

impl From<ErrorReply> for FetchResult {
    fn from(error: ErrorReply) -> Self {
        Self {
            outcome: Outcome::Error.into(),
            code: error.code.into(),
            retry_after_ms: error.retry_after_ms(),
            message: error.message,
            reason: error.reason,
            ..Self::default()
        }
    }
}

/// The status of an absent key in a unary call.
#[must_use]
pub fn absent() -> Status {
    Status::not_found(ABSENT)
}

/// The text for an absent key.
pub const ABSENT: &str = "the origin says there is no such key";

fn code(error: &Error) -> Code {
    match error {
        Error::EmptyKey | Error::KeyTooLong { .. } | Error::TooManyKeys { .. } | Error::Tags(_) => {
            Code::InvalidArgument
        }
        Error::UnknownGroup { .. } => Code::FailedPrecondition,
        Error::Overloaded { .. } | Error::ResponseFull => Code::ResourceExhausted,
        Error::Origin { source, .. } => match **source {
            origin::Error::Busy { .. }
            | origin::Error::Overloaded { .. }
            | origin::Error::RateLimited { .. } => Code::ResourceExhausted,
            origin::Error::Key => Code::InvalidArgument,
            _ => Code::Unavailable,
        },
        Error::Deadline { .. } => Code::DeadlineExceeded,
        Error::NotJoined | Error::BrokenGroup { .. } | Error::Panicked { .. } | Error::Stopping => {
            Code::Unavailable
        }
        Error::ValueTooLarge { .. } => Code::OutOfRange,
        Error::AtOwner { code, .. } => Code::from(*code),
        Error::OwnerSilent { source, .. } => code(source),
    }
}

fn reason(error: &Error) -> &str {
    match error {
        Error::EmptyKey => "EMPTY_KEY",
        Error::KeyTooLong { .. } => "KEY_TOO_LONG",
        Error::TooManyKeys { .. } => "TOO_MANY_KEYS",
        Error::Tags(TagError::Empty) => "EMPTY_TAG",
        Error::Tags(TagError::TooLong { .. }) => "TAG_TOO_LONG",
        Error::Tags(TagError::TooMany { .. }) => "TOO_MANY_TAGS",
        Error::UnknownGroup { .. } => "UNKNOWN_GROUP",
        Error::Overloaded { .. } => "MEMBER_OVERLOADED",
        Error::ResponseFull => "RESPONSE_FULL",
        Error::Deadline { awaited: Awaited::Origin } => "ORIGIN_SLOW",
        Error::Deadline { awaited: Awaited::Owner } => "OWNER_SLOW",
        Error::NotJoined => "MEMBER_NOT_JOINED",
        Error::Stopping => "MEMBER_STOPPING",
        Error::BrokenGroup { .. } => "ORIGIN_MISCONFIGURED",
        Error::Panicked { .. } => "ORIGIN_FAILED",
        Error::ValueTooLarge { .. } => "VALUE_TOO_LARGE",
        Error::Origin { source, .. } => origin_reason(source),
        Error::AtOwner { reason, .. } => reason,
        Error::OwnerSilent { .. } => "OWNER_UNAVAILABLE",
    }
}

fn origin_reason(error: &origin::Error) -> &'static str {
    use origin::Error as Origin;
    match error {
        Origin::Connect { .. } => "ORIGIN_UNREACHABLE",
        Origin::Login { .. } | Origin::Credential { .. } | Origin::Url { .. } => "ORIGIN_LOGIN",
        Origin::Query { .. }
        | Origin::Statement { .. }
        | Origin::BatchStatement { .. }
        | Origin::KeyColumn { .. }
        | Origin::BatchUrl { .. }
        | Origin::Template { .. }
        | Origin::TagsHeader { .. }
        | Origin::TagsColumn { .. } => "ORIGIN_MISCONFIGURED",
        Origin::Tags(_) => "ORIGIN_TAGS",
        Origin::Busy { .. } => "ORIGIN_BUSY",
        Origin::Overloaded { .. } => "ORIGIN_OVERLOADED",
        Origin::RateLimited { .. } => "ORIGIN_RATE_LIMITED",
        // What to do is decided by what failed, not by the suspension that followed.
        Origin::Suspended { last, .. } => origin_reason(last),
        Origin::TimedOut { .. } => "ORIGIN_SLOW",
        Origin::TooLarge { .. } => "VALUE_TOO_LARGE",
        Origin::Key => "INVALID_KEY",
        Origin::Ask { .. }
        | Origin::Status { .. }
        | Origin::BatchBody { .. }
        | Origin::Type { .. }
        | Origin::Other(_) => "ORIGIN_FAILED",
    }
}

fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Overloaded { .. } => Some(OVERLOAD_RETRY),
        Error::Origin { source, .. } => match **source {
            origin::Error::Busy { retry_after, .. }
            | origin::Error::Overloaded { retry_after, .. }
            | origin::Error::RateLimited { retry_after, .. }
            | origin::Error::Suspended { retry_after, .. } => Some(retry_after),
            _ => None,
        },
        Error::AtOwner { retry_after, .. } => *retry_after,
        Error::OwnerSilent { source, .. } => retry_after(source),
        _ => None,
    }
}

/// Source: the mapping of google.rpc.Code, except that an unknown group is 404, as groupcache's
/// peers expect.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound | Code::FailedPrecondition => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::OutOfRange => StatusCode::BAD_GATEWAY,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at_origin(source: origin::Error) -> Error {
        Error::Origin { group: "g".into(), source: Arc::new(source) }
    }

    fn overloaded(retry_after: Duration) -> origin::Error {
        let (wait, load_time) = (Duration::from_millis(45), Duration::from_millis(30));
        origin::Error::Overloaded { wait, load_time, retry_after }
    }

    #[test]
    fn every_error_has_its_grpc_code_and_http_status() {
        let group = || "g".to_owned();
        for (error, grpc, web) in [
            (Error::EmptyKey, Code::InvalidArgument, 400),
            (Error::KeyTooLong { bytes: 9, max: 8 }, Code::InvalidArgument, 400),
            (Error::Tags(TagError::Empty), Code::InvalidArgument, 400),
            (Error::UnknownGroup { group: group() }, Code::FailedPrecondition, 404),
            (Error::Overloaded { max: 1 }, Code::ResourceExhausted, 429),
            (Error::Deadline { awaited: Awaited::Origin }, Code::DeadlineExceeded, 504),
            (Error::Panicked { group: "g".into() }, Code::Unavailable, 503),
            (at_origin(origin::Error::Key), Code::InvalidArgument, 400),
            (Error::NotJoined, Code::Unavailable, 503),
            (
                Error::AtOwner {
                    code: Code::Unavailable.into(),
                    message: "m".into(),
                    reason: "ORIGIN_FAILED".into(),
                    retry_after: None,
                },
                Code::Unavailable,
                503,
            ),
        ] {
            let reply = ErrorReply::from(&error);
            assert_eq!(reply.code, grpc, "{error}");
            assert_eq!(reply.http_status().as_u16(), web, "{error}");
        }
    }

    #[test]
    fn the_error_of_an_unknown_group_names_it_and_says_what_to_do() {
        let text = ErrorReply::from(Error::UnknownGroup { group: "studnets".into() }).message;
        assert!(text.contains("\"studnets\"") && text.contains("apply a CacheGroup"), "{text}");
    }

    #[test]
    fn an_overload_says_when_to_retry_in_every_form_that_clients_read() {
        let wait = Duration::from_millis(1_300);
        let busy = at_origin(origin::Error::Busy { concurrency: 1, retry_after: wait });
        let reply = ErrorReply::from(&busy);
        assert_eq!(reply.http_retry_after(), Some(2));
        let status = Status::from(reply);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(PUSHBACK).expect("a trailer"), "1300");
        let details = status.get_error_details();
        assert_eq!(details.retry_info().expect("in the details").retry_delay, Some(wait));
        assert_eq!(details.error_info().expect("in the details").reason, "ORIGIN_BUSY");
        assert!(ErrorReply::from(Error::Overloaded { max: 1 }).retry_after.is_some());
    }

    #[test]
    fn a_suspended_origin_has_the_reason_of_its_last_failure_and_a_time_to_retry() {
        let last = Arc::new(origin::Error::TimedOut { timeout_ms: 500, pending: None });
        let retry_after = Duration::from_millis(700);
        let suspended = at_origin(origin::Error::Suspended { last, failures: 5, retry_after });
        let reply = ErrorReply::from(&suspended);
        assert_eq!((reply.code, reply.reason.as_str()), (Code::Unavailable, "ORIGIN_SLOW"));
        assert_eq!((reply.retry_after_ms(), reply.http_retry_after()), (700, Some(1)));
        assert!(
            reply.message.contains("did not answer within 500 ms (5 loads failed in a row"),
            "{}",
            reply.message
        );
    }

    #[test]
    fn a_silent_owner_is_distinguished_from_a_failing_origin() {
        let problem = "connection refused".to_owned();
        let origin = at_origin(origin::Error::Connect { place: "db:5432".into(), problem });
        let silent = Error::OwnerSilent { owner: "shop-1".into(), source: origin.clone().into() };
        for (error, expected) in [(&origin, "ORIGIN_UNREACHABLE"), (&silent, "OWNER_UNAVAILABLE")] {
            let status = Status::from(ErrorReply::from(error));
            assert_eq!(status.code(), Code::Unavailable);
            let info = status.get_error_details().error_info().cloned().expect("in the details");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (expected, DOMAIN));
            assert!(status.metadata().get(PUSHBACK).is_none(), "clients apply their own backoff");
        }
        let reply = ErrorReply::from(&silent);
        assert!(
            reply.message.contains("owner shop-1 does not answer, and this member failed too: the"),
            "{}",
            reply.message
        );
        assert_eq!(reply.http_retry_after(), Some(1));
    }

    #[test]
    fn every_reason_is_in_the_documented_table() {
        let table = include_str!("../../docs/reference/errors.md");
        let name = || "n".to_owned();
        let origins = [
            origin::Error::Connect { place: name(), problem: name() },
            origin::Error::Login { place: name(), problem: name() },
            origin::Error::Query { problem: name() },
            origin::Error::Ask { place: name(), problem: name() },
            origin::Error::TooLarge { max: 1 },
            origin::Error::Tags(TagError::Empty),
            origin::Error::Key,
            origin::Error::TimedOut { timeout_ms: 1, pending: None },
            origin::Error::Busy { concurrency: 1, retry_after: Duration::ZERO },
            origin::Error::RateLimited { loads_per_second: 1, retry_after: Duration::ZERO },
            overloaded(Duration::ZERO),
        ];
        let others = [
            Error::EmptyKey,
            Error::KeyTooLong { bytes: 2, max: 1 },
            Error::TooManyKeys { keys: 2, max: 1 },
            Error::Tags(TagError::Empty),
            Error::Tags(TagError::TooLong { bytes: 129 }),
            Error::Tags(TagError::TooMany { tags: 65 }),
            Error::UnknownGroup { group: name() },
            Error::Overloaded { max: 1 },
            Error::ResponseFull,
            Error::Deadline { awaited: Awaited::Origin },
            Error::Deadline { awaited: Awaited::Owner },
            Error::NotJoined,
            Error::Stopping,
            Error::OwnerSilent { owner: "o".into(), source: Error::Stopping.into() },
        ];
        for error in origins.into_iter().map(at_origin).chain(others) {
            let reason = reason(&error);
            assert!(table.contains(&format!("`{reason}`")), "{reason} is not in the table");
        }
    }
}
