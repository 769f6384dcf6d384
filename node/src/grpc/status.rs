//! The one table from our errors to what callers see: gRPC code and HTTP status.
//!
//! Absent is not an error inside the member, but unary callers read it as NOT_FOUND; it is worded
//! here too.

use http::StatusCode;
use tonic::{Code, Status};

use crate::cache::Error;
use crate::origin;

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
        Error::Deadline => Code::DeadlineExceeded,
        Error::NotJoined
        | Error::Origin { .. }
        | Error::BrokenGroup { .. }
        | Error::Panicked { .. }
        | Error::Stopping => Code::Unavailable,
        Error::ValueTooLarge { .. } => Code::OutOfRange,
        Error::AtOwner { code, .. } => *code,
    }
}

/// An error as a gRPC status.
#[must_use]
pub fn status(error: &Error) -> Status {
    Status::new(code(error), error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_of_the_api_has_its_code() {
        let group = || "g".to_owned();
        for (error, grpc, web) in [
            (Error::EmptyKey, Code::InvalidArgument, 400),
            (Error::KeyTooLong { bytes: 9, max: 8 }, Code::InvalidArgument, 400),
            (Error::UnknownGroup { group: group() }, Code::FailedPrecondition, 404),
            (Error::Overloaded { max: 1 }, Code::ResourceExhausted, 429),
            (Error::Deadline, Code::DeadlineExceeded, 504),
            (Error::Panicked { group: "g".into() }, Code::Unavailable, 503),
            (Error::NotJoined, Code::Unavailable, 503),
            (
                Error::AtOwner { code: Code::Unavailable, message: "m".into() },
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
}
