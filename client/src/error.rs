//! What can go wrong with a call, as types. Texts tell their own layer only.

use std::time::Duration;

use tonic::Code;

/// Why a client cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No member was named.
    #[error("no member was named")]
    NoMembers,
    /// Not `host:port`.
    #[error("{address:?} is not host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// A setting that cannot be kept.
    #[error("{setting} must be above zero")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
}

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The members do not know the group.
    #[error("{message}")]
    UnknownGroup {
        /// The member's text.
        message: String,
    },
    /// The request itself is wrong: an empty or too long key, too many keys.
    #[error("invalid request: {message}")]
    InvalidRequest {
        /// The member's text.
        message: String,
    },
    /// The members refuse work that is too much for them.
    #[error("members are overloaded: {message}")]
    Overloaded {
        /// The member's text.
        message: String,
        /// When the member would like to be asked again.
        retry_after: Option<Duration>,
    },
    /// This client has as many calls in flight as it may.
    #[error("{limit} calls are in flight and as many wait")]
    Busy {
        /// The configured limit.
        limit: usize,
    },
    /// Every try failed.
    #[error("no member answered in {tries} tries")]
    Unavailable {
        /// Requests sent, or tried to be sent.
        tries: u32,
        /// The last failure.
        #[source]
        last: Failure,
    },
    /// The call's deadline passed.
    #[error("no answer within {} ms", after.as_millis())]
    DeadlineExceeded {
        /// The call's whole time.
        after: Duration,
        /// The last failure before, if a try had failed.
        #[source]
        last: Option<Failure>,
    },
    /// A member answered with an error that another try would not mend.
    #[error("refused ({code:?}): {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The member's text.
        message: String,
    },
    /// A member's answer cannot be understood.
    #[error("answer makes no sense: {reason}")]
    Nonsense {
        /// What is wrong with it.
        reason: String,
    },
}

/// One try's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The connection could not be made or broke.
    #[error("{address} cannot be reached: {message}")]
    Connection {
        /// The member.
        address: String,
        /// The transport's text.
        message: String,
    },
    /// Connected, but no answer came in a try's time.
    #[error("{address} gave no answer within {} ms", after.as_millis())]
    Silent {
        /// The member.
        address: String,
        /// How long it was given.
        after: Duration,
    },
    /// The member answered that it, or the origin, is not available now.
    #[error("{address} answered: {message}")]
    Answered {
        /// The member.
        address: String,
        /// Its text.
        message: String,
    },
    /// No name led to an address.
    #[error("{host} has no address: {message}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's text.
        message: String,
    },
}

impl Error {
    /// The error's kind, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownGroup { .. } => "unknown_group",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::Overloaded { .. } => "overloaded",
            Self::Busy { .. } => "busy",
            Self::Unavailable { .. } => "unavailable",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::Refused { .. } => "refused",
            Self::Nonsense { .. } => "nonsense",
        }
    }

    /// The gRPC code that tells the same, for those who pass the error on.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownGroup { .. } => Code::FailedPrecondition,
            Self::InvalidRequest { .. } => Code::InvalidArgument,
            Self::Overloaded { .. } | Self::Busy { .. } => Code::ResourceExhausted,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::DeadlineExceeded { .. } => Code::DeadlineExceeded,
            Self::Refused { code, .. } => *code,
            Self::Nonsense { .. } => Code::Internal,
        }
    }

    /// When the members would like to be asked again, if they said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// From a member's final word.
    pub(crate) fn from_answer(code: Code, message: String, retry_after: Option<Duration>) -> Self {
        match code {
            Code::FailedPrecondition => Self::UnknownGroup { message },
            Code::InvalidArgument => Self::InvalidRequest { message },
            Code::ResourceExhausted => Self::Overloaded { message, retry_after },
            code => Self::Refused { code, message },
        }
    }
}

/// The text of the deepest cause: "connection refused" rather than "transport error".
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
