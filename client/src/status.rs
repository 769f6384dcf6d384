//! Pure: reads a failed try's gRPC status: what it means for the call, and what the member said.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::Duration;

use larder_proto::v1::KeyResult;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{MemberError, is_of_origin};
use crate::network::ChannelError;

/// Trailer with the milliseconds after which to retry; a negative number means never.
/// Source: gRFC A6, "Pushback".
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The domain of Larder's reasons in `google.rpc.ErrorInfo`.
const REASON_DOMAIN: &str = "larder.dev";

/// What a failed try means for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection failed: try another member at once.
    Unreachable,
    /// The server does not speak gRPC: try another member at once.
    NotGrpc {
        /// What it sent instead.
        problem: String,
    },
    /// The member is unavailable: try another one at once.
    TryAnother,
    /// The member is overloaded and asks for a retry after this delay.
    Pushback(Duration),
    /// Another try would fail the same way.
    Final,
}

/// Classifies a failed try.
pub(crate) fn judge(status: &Status) -> Verdict {
    // Only a status created on this side has a source: the transport's error.
    if let Some(source) = status.source() {
        return match source.downcast_ref() {
            Some(ChannelError::NotGrpc { problem }) => {
                Verdict::NotGrpc { problem: problem.clone() }
            }
            _ => Verdict::Unreachable,
        };
    }
    match status.code() {
        // Every member would ask the same origin.
        Code::Unavailable if reason(status).is_some_and(|r| is_of_origin(&r)) => Verdict::Final,
        Code::Unavailable => Verdict::TryAnother,
        Code::ResourceExhausted => pushback(status).map_or(Verdict::Final, Verdict::Pushback),
        _ => Verdict::Final,
    }
}

/// The status that a key's error in a batch would have in a call of its own.
pub(crate) fn key_status(result: KeyResult) -> Status {
    let mut metadata = MetadataMap::new();
    if result.retry_after_ms > 0 {
        metadata.insert(PUSHBACK, result.retry_after_ms.into());
    }
    let details = match result.reason {
        reason if reason.is_empty() => ErrorDetails::new(),
        reason => ErrorDetails::with_error_info(reason, REASON_DOMAIN, HashMap::new()),
    };
    let code = result.code.into();
    Status::with_error_details_and_metadata(code, result.message, details, metadata)
}

/// What the member at `address` said with a status.
pub(crate) fn member_error(address: &str, status: &Status) -> MemberError {
    MemberError {
        address: address.to_owned(),
        code: status.code(),
        reason: reason(status),
        message: status.message().to_owned(),
        retry_after: pushback(status),
    }
}

fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

fn pushback(status: &Status) -> Option<Duration> {
    let text = status.metadata().get(PUSHBACK)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_is_retried_only_with_a_pushback() {
        let mut status = Status::resource_exhausted("full");
        assert_eq!(judge(&status), Verdict::Final);
        status.metadata_mut().insert(PUSHBACK, "-1".parse().expect("ascii"));
        assert_eq!(judge(&status), Verdict::Final);
        status.metadata_mut().insert(PUSHBACK, "40".parse().expect("ascii"));
        assert_eq!(judge(&status), Verdict::Pushback(Duration::from_millis(40)));
    }

    #[test]
    fn an_overloaded_key_in_a_batch_carries_its_pushback() {
        let code = Code::ResourceExhausted.into();
        let result = KeyResult { code, retry_after_ms: 40, ..KeyResult::default() };
        assert_eq!(judge(&key_status(result)), Verdict::Pushback(Duration::from_millis(40)));
        let result = KeyResult { code, ..KeyResult::default() };
        assert_eq!(judge(&key_status(result)), Verdict::Final);
    }

    #[test]
    fn a_key_in_a_batch_and_a_call_of_its_own_say_the_same() {
        let result = KeyResult {
            code: Code::ResourceExhausted.into(),
            message: "the origin is busy".into(),
            reason: "ORIGIN_BUSY".into(),
            retry_after_ms: 40,
            ..KeyResult::default()
        };
        let expected = MemberError {
            address: "10.0.0.1:7600".into(),
            code: Code::ResourceExhausted,
            reason: Some("ORIGIN_BUSY".into()),
            message: "the origin is busy".into(),
            retry_after: Some(Duration::from_millis(40)),
        };
        assert_eq!(member_error("10.0.0.1:7600", &key_status(result)), expected);
        let plain = member_error("10.0.0.1:7600", &Status::internal("bug"));
        assert_eq!((plain.reason, plain.retry_after), (None, None));
    }

    #[test]
    fn errors_of_the_request_are_final() {
        for status in [
            Status::not_found("absent"),
            Status::invalid_argument("empty key"),
            Status::failed_precondition("unknown group"),
            Status::deadline_exceeded("slow"),
            Status::internal("bug"),
        ] {
            assert_eq!(judge(&status), Verdict::Final, "{status}");
        }
        assert_eq!(judge(&Status::unavailable("draining")), Verdict::TryAnother);
    }

    #[test]
    fn a_failed_origin_is_final_and_an_unavailable_member_is_not() {
        for (reason, expected) in [
            ("ORIGIN_UNREACHABLE", Verdict::Final),
            ("ORIGIN_SLOW", Verdict::Final),
            ("VALUE_TOO_LARGE", Verdict::Final),
            ("OWNER_UNAVAILABLE", Verdict::TryAnother),
            ("MEMBER_STOPPING", Verdict::TryAnother),
            ("MEMBER_NOT_JOINED", Verdict::TryAnother),
        ] {
            let (code, reason) = (Code::Unavailable.into(), reason.to_owned());
            let result = KeyResult { code, reason: reason.clone(), ..KeyResult::default() };
            assert_eq!(judge(&key_status(result)), expected, "{reason}");
        }
    }

    #[test]
    fn a_server_without_grpc_is_not_a_broken_connection() {
        let problem = "it answered HTTP 404".to_owned();
        let status = Status::from_error(ChannelError::NotGrpc { problem: problem.clone() }.into());
        assert_eq!(judge(&status), Verdict::NotGrpc { problem });
        assert_eq!(judge(&Status::from_error("broken pipe".into())), Verdict::Unreachable);
    }
}
