//! Why a client cannot be built and why a call fails. Each text covers its own layer only.

use std::time::Duration;

use larder_proto::names::{ADMIN_PORT, GRPC_PORT, HTTP_PORT};
use tonic::Code;

use crate::endpoint::EndpointError;

/// Why a client cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No endpoint was given.
    #[error("no endpoint of a member is given")]
    NoMembers,
    /// One of the endpoints cannot be read.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A limit is zero.
    #[error("{setting} must be above zero")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
    /// An endpoint asks for TLS, and there are no certificates, or the other way round.
    #[error("{endpoint}: {problem}")]
    Scheme {
        /// The endpoint.
        endpoint: String,
        /// What does not go together.
        problem: &'static str,
    },
    /// The certificates cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// The name that the members' certificates must contain is not a DNS name or not known.
    #[error("{0}")]
    ServerName(String),
}

/// Why a call failed.
///
/// Where a member answered with an error, [`Error::answer`] has it: which member, the gRPC code,
/// the reason, the message, and when to retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The members know no group of this name.
    #[error("{}", .0.message)]
    UnknownGroup(MemberError),
    /// The request itself is wrong, for example an empty or too long key. Not retried.
    #[error("invalid request: {}", .0.message)]
    InvalidRequest(MemberError),
    /// A member, or the origin behind it, has no capacity for the request now.
    #[error("overloaded: {}", .0.message)]
    Overloaded(MemberError),
    /// The group's origin failed, and the member had no value to answer with instead.
    #[error("{}", at_origin(group, answer))]
    Origin {
        /// The group whose origin failed.
        group: String,
        /// What the member reported about it.
        answer: MemberError,
    },
    /// A member answered with another error that a retry would not change.
    #[error("member {} refused the call ({:?}): {}", .0.address, .0.code, .0.message)]
    Refused(MemberError),
    /// This client has as many calls in flight, and as many queued, as it is allowed to.
    #[error("{limit} calls are in flight and as many are queued")]
    Busy {
        /// The configured limit of calls in flight.
        limit: usize,
    },
    /// Every try failed.
    #[error("{}", unavailable(*tries, last))]
    Unavailable {
        /// Requests sent, or tried to be sent.
        tries: u32,
        /// The failure of the last round; what a member answered takes precedence there over a
        /// connection that failed.
        #[source]
        last: Failure,
    },
    /// The call's deadline passed.
    #[error("no answer within {} ms", after.as_millis())]
    DeadlineExceeded {
        /// The call's time limit.
        after: Duration,
        /// The failure before the deadline, chosen as in [`Error::Unavailable`]; `None` when no
        /// try had failed yet.
        #[source]
        last: Option<Failure>,
    },
    /// A member's response cannot be understood.
    #[error("invalid response: {problem}")]
    InvalidResponse {
        /// What is wrong with it.
        problem: String,
    },
}

/// An error that a member answered with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("member {address} answered: {message}")]
pub struct MemberError {
    /// `host:port` of the member.
    pub address: String,
    /// The gRPC code.
    pub code: Code,
    /// What failed, as an identifier such as `ORIGIN_SLOW`: `docs/reference/errors.md` has the
    /// table. `None` from a server that sends none.
    pub reason: Option<String>,
    /// The text for people; it may change between versions.
    pub message: String,
    /// The delay after which the member asks to be called again.
    pub retry_after: Option<Duration>,
}

/// Why one try failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The connection could not be made, or it broke.
    #[error("{address} cannot be reached: {message}")]
    Connection {
        /// `host:port` that was dialled.
        address: String,
        /// The transport's error.
        message: String,
    },
    /// A server accepts connections at the address, but it does not speak gRPC.
    #[error(
        "{address} does not speak gRPC ({problem}): use a member's gRPC port, {GRPC_PORT} by \
         default; {HTTP_PORT} is HTTP and {ADMIN_PORT} metrics"
    )]
    NotGrpc {
        /// `host:port` that was dialled.
        address: String,
        /// What the server sent instead.
        problem: String,
    },
    /// Connected, but no answer within the time limit of one try.
    #[error("{address} gave no answer within {} ms", after.as_millis())]
    Silent {
        /// The member's `host:port`.
        address: String,
        /// The time limit.
        after: Duration,
    },
    /// The member answered with an error.
    #[error(transparent)]
    Answered(MemberError),
    /// A name did not resolve to an address.
    #[error("{host} has no address: {message}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's error.
        message: String,
    },
    /// Neither an endpoint nor the ring gave a member's address.
    #[error("the endpoints and the ring are empty")]
    NoMember,
}

impl Error {
    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownGroup(_) => "unknown_group",
            Self::InvalidRequest(_) => "invalid_request",
            Self::Overloaded(_) => "overloaded",
            Self::Origin { .. } => "origin",
            Self::Refused(_) => "refused",
            Self::Busy { .. } => "busy",
            Self::Unavailable { .. } => "unavailable",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::InvalidResponse { .. } => "invalid_response",
        }
    }

    /// The gRPC code to pass the error on with.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownGroup(answer)
            | Self::InvalidRequest(answer)
            | Self::Overloaded(answer)
            | Self::Origin { answer, .. }
            | Self::Refused(answer) => answer.code,
            Self::Busy { .. } => Code::ResourceExhausted,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::InvalidResponse { .. } => Code::Internal,
        }
    }

    /// What a member answered; `None` when none did.
    #[must_use]
    pub fn answer(&self) -> Option<&MemberError> {
        match self {
            Self::UnknownGroup(answer)
            | Self::InvalidRequest(answer)
            | Self::Overloaded(answer)
            | Self::Origin { answer, .. }
            | Self::Refused(answer)
            | Self::Unavailable { last: Failure::Answered(answer), .. }
            | Self::DeadlineExceeded { last: Some(Failure::Answered(answer)), .. } => Some(answer),
            _ => None,
        }
    }

    /// The reason that a member gave, such as `ORIGIN_SLOW`: see [`MemberError::reason`].
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.answer()?.reason.as_deref()
    }

    /// The delay after which the member asks to be called again, if it gave one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer()?.retry_after
    }

    /// The error of a call on `group` that a member's answer ends.
    pub(crate) fn of_answer(group: &str, answer: MemberError) -> Self {
        match answer.code {
            Code::ResourceExhausted => Self::Overloaded(answer),
            _ if answer.is_of_origin() => Self::Origin { group: group.to_owned(), answer },
            Code::FailedPrecondition => Self::UnknownGroup(answer),
            Code::InvalidArgument => Self::InvalidRequest(answer),
            Code::Unavailable => Self::Unavailable { tries: 1, last: Failure::Answered(answer) },
            _ => Self::Refused(answer),
        }
    }

    /// The error of a call on `group` that ran out of tries.
    pub(crate) fn of_failure(group: &str, tries: u32, last: Failure) -> Self {
        match last {
            Failure::Answered(answer) if answer.is_of_origin() => Self::of_answer(group, answer),
            last => Self::Unavailable { tries, last },
        }
    }
}

impl MemberError {
    /// Whether the member worked, and the origin behind it failed.
    pub(crate) fn is_of_origin(&self) -> bool {
        self.reason.as_deref().is_some_and(is_of_origin)
    }

    /// Whether the member refused the request unread.
    fn is_unread(&self) -> bool {
        matches!(self.reason.as_deref(), Some("MEMBER_STOPPING" | "MEMBER_NOT_JOINED"))
    }
}

impl Failure {
    /// Whether the try may have cost a member work.
    pub(crate) fn is_costly(&self) -> bool {
        match self {
            Self::Answered(answer) => !answer.is_unread(),
            Self::Silent { .. } => true,
            Self::Connection { .. }
            | Self::NotGrpc { .. }
            | Self::Resolve { .. }
            | Self::NoMember => false,
        }
    }

    /// How specific the failure is about the cause; the most specific one of a round is reported.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Answered(answer) => 1 + u8::from(answer.is_of_origin()),
            _ => 0,
        }
    }
}

/// Whether a reason means that the origin failed.
pub(crate) fn is_of_origin(reason: &str) -> bool {
    reason.starts_with("ORIGIN_") || reason == "VALUE_TOO_LARGE"
}

/// Most messages about an origin name the group already.
fn at_origin(group: &str, answer: &MemberError) -> String {
    let MemberError { address, message, .. } = answer;
    if message.contains(&format!("{group:?}")) {
        format!("{message} (reported by member {address})")
    } else {
        format!("the origin of group {group:?} failed: {message} (reported by member {address})")
    }
}

fn unavailable(tries: u32, last: &Failure) -> String {
    match (tries, last) {
        (0, _) => "no member answered, since none is known".into(),
        (1, Failure::Answered(_)) => "no member could serve the call in 1 try".into(),
        (tries, Failure::Answered(_)) => format!("no member could serve the call in {tries} tries"),
        (1, _) => "no member answered in 1 try".into(),
        (tries, _) => format!("no member answered in {tries} tries"),
    }
}

/// The text of the deepest cause: "connection refused" rather than "transport error".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Code, reason: &str, message: &str) -> MemberError {
        MemberError {
            address: "10.0.0.1:7600".into(),
            code,
            reason: Some(reason.into()),
            message: message.into(),
            retry_after: None,
        }
    }

    #[test]
    fn an_origin_failure_names_the_group_once_and_the_member() {
        let error = |message| {
            let answer = answer(Code::Unavailable, "ORIGIN_SLOW", message);
            Error::of_failure("students", 2, Failure::Answered(answer)).to_string()
        };
        let expected = "the origin of group \"students\" failed: no answer within 500 ms \
                        (reported by member 10.0.0.1:7600)";
        assert_eq!(error("no answer within 500 ms"), expected);
        let named = "the origin of group \"students\" failed: no answer within 500 ms";
        assert_eq!(error(named), expected);
    }

    #[test]
    fn the_kind_follows_code_and_reason() {
        for (code, reason, kind) in [
            (Code::FailedPrecondition, "UNKNOWN_GROUP", "unknown_group"),
            (Code::InvalidArgument, "EMPTY_KEY", "invalid_request"),
            (Code::ResourceExhausted, "MEMBER_OVERLOADED", "overloaded"),
            (Code::ResourceExhausted, "ORIGIN_BUSY", "overloaded"),
            (Code::DeadlineExceeded, "ORIGIN_SLOW", "origin"),
            (Code::OutOfRange, "VALUE_TOO_LARGE", "origin"),
            (Code::DeadlineExceeded, "OWNER_SLOW", "refused"),
        ] {
            let error = Error::of_answer("g", answer(code, reason, "text"));
            assert_eq!((error.kind(), error.reason(), error.code()), (kind, Some(reason), code));
        }
    }
}
