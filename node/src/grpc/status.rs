//! The one table from our errors to what callers see: gRPC code, reason, HTTP status, and when to
//! come back.
//!
//! Absent is not an error inside the member, but unary callers read it as NOT_FOUND; it is worded
//! here too. A status carries a `google.rpc.ErrorInfo` with the reason. An overload carries when to
//! ask again in both forms that clients read: `google.rpc.RetryInfo`, and the trailer of gRFC A6,
//! which stock clients with a retry policy obey.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::cache::{Awaited, Error};
use crate::origin;

/// Where the reasons are defined: `ErrorInfo.domain`.
const DOMAIN: &str = "larder.dev";
/// Trailer in which a server says when to ask again. Source: gRFC A6, "Pushback".
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// When to ask a member again that has as many requests waiting as it may: about as long as a
/// load takes whose end makes room.
const ROOM_AFTER: Duration = Duration::from_millis(100);
/// When to ask over HTTP again after another failure: a failing origin is asked once a second.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);

/// The gRPC code of an error.
#[must_use]
pub fn code(error: &Error) -> Code {
    match error {
        Error::EmptyKey | Error::KeyTooLong { .. } | Error::TooManyKeys { .. } => {
            Code::InvalidArgument
        }
        Error::UnknownGroup { .. } => Code::FailedPrecondition,
        Error::Overloaded { .. } | Error::ResponseFull => Code::ResourceExhausted,
        Error::Origin { source, .. } if matches!(**source, origin::Error::Busy { .. }) => {
            Code::ResourceExhausted
        }
        Error::Deadline { .. } => Code::DeadlineExceeded,
        Error::NotJoined
        | Error::Origin { .. }
        | Error::BrokenGroup { .. }
        | Error::Panicked { .. }
        | Error::Stopping => Code::Unavailable,
        Error::ValueTooLarge { .. } => Code::OutOfRange,
        Error::AtOwner { code, .. } => *code,
        Error::OwnerSilent { source, .. } => code(source),
    }
}

/// What is wrong, in a word for programs. A contract: docs/reference/errors.md has the table.
#[must_use]
pub fn reason(error: &Error) -> &str {
    match error {
        Error::EmptyKey => "EMPTY_KEY",
        Error::KeyTooLong { .. } => "KEY_TOO_LONG",
        Error::TooManyKeys { .. } => "TOO_MANY_KEYS",
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
        Error::Origin { source, .. } => at_origin(source),
        Error::AtOwner { reason, .. } => reason,
        Error::OwnerSilent { .. } => "OWNER_UNAVAILABLE",
    }
}

fn at_origin(error: &origin::Error) -> &'static str {
    use origin::Error as Origin;
    match error {
        Origin::Connect { .. } => "ORIGIN_UNREACHABLE",
        Origin::Login { .. } | Origin::Credential { .. } | Origin::Url { .. } => "ORIGIN_LOGIN",
        Origin::Query { .. } | Origin::Statement { .. } | Origin::Template { .. } => {
            "ORIGIN_MISCONFIGURED"
        }
        Origin::Busy { .. } => "ORIGIN_BUSY",
        Origin::TimedOut { .. } => "ORIGIN_SLOW",
        Origin::TooLarge { .. } => "VALUE_TOO_LARGE",
        Origin::Ask { .. }
        | Origin::Status { .. }
        | Origin::Type { .. }
        | Origin::Key
        | Origin::Other(_) => "ORIGIN_FAILED",
    }
}

/// When to ask again; told with every overload.
#[must_use]
pub fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Overloaded { .. } => Some(ROOM_AFTER),
        Error::Origin { source, .. } => match **source {
            origin::Error::Busy { retry_after, .. } => Some(retry_after),
            _ => None,
        },
        Error::AtOwner { retry_after, .. } => *retry_after,
        Error::OwnerSilent { source, .. } => retry_after(source),
        _ => None,
    }
}

/// A time to come back as the wire has it: whole milliseconds, 0 for none.
#[must_use]
pub fn retry_after_ms(retry_after: Option<Duration>) -> u32 {
    retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1))
}

/// An error as a gRPC status.
#[must_use]
pub fn status(error: &Error) -> Status {
    let info = ErrorDetails::with_error_info(reason(error), DOMAIN, HashMap::new());
    told(code(error), error.to_string(), info, retry_after(error))
}

/// A status with when to ask again, if that is known.
#[must_use]
pub fn told(
    code: Code,
    message: String,
    mut details: ErrorDetails,
    retry_after: Option<Duration>,
) -> Status {
    let mut metadata = MetadataMap::new();
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
        metadata.insert(PUSHBACK, retry_after_ms(retry_after).into());
    }
    Status::with_error_details_and_metadata(code, message, details, metadata)
}

/// "The origin says there is no such key."
#[must_use]
pub fn absent() -> Status {
    Status::not_found("the origin says there is no such key")
}

/// The HTTP status that tells the same as a gRPC code. Source: google.rpc.Code's own mapping,
/// except that an unknown group is not found, as groupcache's peers expect.
#[must_use]
pub fn http(code: Code) -> StatusCode {
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

/// Seconds for HTTP's `Retry-After`, with 429 and 503.
#[must_use]
pub fn http_retry_after(error: &Error) -> Option<u64> {
    let unavailable = (code(error) == Code::Unavailable).then_some(UNAVAILABLE_FOR);
    let after = retry_after(error).or(unavailable)?;
    Some(after.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at_origin(source: origin::Error) -> Error {
        Error::Origin { group: "g".into(), source: Arc::new(source) }
    }

    #[test]
    fn every_promise_of_the_api_has_its_code() {
        let group = || "g".to_owned();
        for (error, grpc, web) in [
            (Error::EmptyKey, Code::InvalidArgument, 400),
            (Error::KeyTooLong { bytes: 9, max: 8 }, Code::InvalidArgument, 400),
            (Error::UnknownGroup { group: group() }, Code::FailedPrecondition, 404),
            (Error::Overloaded { max: 1 }, Code::ResourceExhausted, 429),
            (Error::Deadline { awaited: Awaited::Origin }, Code::DeadlineExceeded, 504),
            (Error::Panicked { group: "g".into() }, Code::Unavailable, 503),
            (Error::NotJoined, Code::Unavailable, 503),
            (
                Error::AtOwner {
                    code: Code::Unavailable,
                    message: "m".into(),
                    reason: "ORIGIN_FAILED".into(),
                    retry_after: None,
                },
                Code::Unavailable,
                503,
            ),
        ] {
            assert_eq!(code(&error), grpc, "{error}");
            assert_eq!(http(code(&error)).as_u16(), web, "{error}");
        }
    }

    #[test]
    fn an_unknown_group_is_named_with_what_to_do() {
        let text = status(&Error::UnknownGroup { group: "studnets".into() }).message().to_owned();
        assert!(text.contains("\"studnets\"") && text.contains("apply a CacheGroup"), "{text}");
    }

    #[test]
    fn an_overload_says_when_to_come_back_in_every_form_that_clients_read() {
        let wait = Duration::from_millis(1_300);
        let busy = at_origin(origin::Error::Busy { concurrency: 1, retry_after: wait });
        let status = status(&busy);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get(PUSHBACK).expect("a trailer"), "1300");
        let details = status.get_error_details();
        assert_eq!(details.retry_info().expect("told").retry_delay, Some(wait));
        assert_eq!(details.error_info().expect("told").reason, "ORIGIN_BUSY");
        assert_eq!(http_retry_after(&busy), Some(2));
        assert!(retry_after(&Error::Overloaded { max: 1 }).is_some());
    }

    #[test]
    fn a_silent_owner_is_told_from_a_failing_origin() {
        let problem = "connection refused".to_owned();
        let origin = at_origin(origin::Error::Connect { place: "db:5432".into(), problem });
        let silent = Error::OwnerSilent { owner: "shop-1".into(), source: origin.clone().into() };
        for (error, expected) in [(&origin, "ORIGIN_UNREACHABLE"), (&silent, "OWNER_UNAVAILABLE")] {
            let status = status(error);
            assert_eq!(status.code(), Code::Unavailable);
            let info = status.get_error_details().error_info().cloned().expect("told");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (expected, DOMAIN));
            assert!(status.metadata().get(PUSHBACK).is_none(), "clients know how to back off");
        }
        let text = status(&silent).message().to_owned();
        assert!(text.contains("owner shop-1 does not answer; in its place: the origin"), "{text}");
        assert_eq!(http_retry_after(&silent), Some(1));
    }

    #[test]
    fn every_reason_stands_in_the_table_of_errors() {
        let table = include_str!("../../../docs/reference/errors.md");
        let name = || "n".to_owned();
        let origins = [
            origin::Error::Connect { place: name(), problem: name() },
            origin::Error::Login { place: name(), problem: name() },
            origin::Error::Query { problem: name() },
            origin::Error::Ask { problem: name() },
            origin::Error::TooLarge { max: 1 },
            origin::Error::TimedOut { timeout_ms: 1, pending: None },
            origin::Error::Busy { concurrency: 1, retry_after: Duration::ZERO },
        ];
        let others = [
            Error::EmptyKey,
            Error::KeyTooLong { bytes: 2, max: 1 },
            Error::TooManyKeys { keys: 2, max: 1 },
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
