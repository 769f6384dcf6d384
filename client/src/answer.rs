//! The answer for one key, as callers see it.

use bytes::Bytes;
use larder_proto::v1;
use larder_proto::v1::{Explanation, KeyResult, Outcome};

use crate::error::Error;
use crate::status::{key_status, member_error};

/// What the cache has for one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// There is a value, which may be empty.
    Found {
        /// A view into the received buffer; cloning it copies no bytes.
        value: Bytes,
        /// Past its time to live, and allowed by the group's freshness rules.
        stale: bool,
        /// Only when requested.
        explanation: Option<Box<Explanation>>,
    },
    /// The origin has no such key.
    Absent {
        /// Only when requested.
        explanation: Option<Box<Explanation>>,
    },
}

impl Answer {
    /// The value; `None` when absent.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Found { value, .. } => Some(value),
            Self::Absent { .. } => None,
        }
    }

    /// Whether the value is past its time to live.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Found { stale: true, .. })
    }

    /// Where the answer came from, when that was requested.
    #[must_use]
    pub fn explanation(&self) -> Option<&Explanation> {
        match self {
            Self::Found { explanation, .. } | Self::Absent { explanation } => {
                explanation.as_deref()
            }
        }
    }

    /// Drops the explanation unless it was requested.
    pub(crate) fn explained(mut self, requested: bool) -> Self {
        let (Self::Found { explanation, .. } | Self::Absent { explanation }) = &mut self;
        if !requested {
            *explanation = None;
        }
        self
    }
}

impl From<v1::GetResponse> for Answer {
    fn from(response: v1::GetResponse) -> Self {
        Self::Found {
            value: response.value,
            stale: response.stale,
            explanation: response.explanation.map(Box::new),
        }
    }
}

/// Reads one key's result in the batch response of the member at `address`.
pub(crate) fn from_result(address: &str, group: &str, result: KeyResult) -> Result<Answer, Error> {
    match Outcome::try_from(result.outcome) {
        Ok(Outcome::Found) => Ok(Answer::Found {
            value: result.value,
            stale: result.stale,
            explanation: result.explanation.map(Box::new),
        }),
        Ok(Outcome::Absent) => Ok(Answer::Absent { explanation: result.explanation.map(Box::new) }),
        Ok(Outcome::Error) => {
            Err(Error::of_answer(group, member_error(address, &key_status(result))))
        }
        Ok(Outcome::Unspecified) | Err(_) => {
            Err(Error::InvalidResponse { problem: format!("unknown outcome {}", result.outcome) })
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn read(result: KeyResult) -> Result<Answer, Error> {
        from_result("10.0.0.1:7600", "students", result)
    }

    #[test]
    fn absent_is_not_empty_and_not_an_error() {
        let empty = KeyResult { outcome: Outcome::Found.into(), ..KeyResult::default() };
        let absent = KeyResult { outcome: Outcome::Absent.into(), ..KeyResult::default() };
        assert_eq!(read(empty).expect("found").value(), Some(&Bytes::new()));
        assert_eq!(read(absent).expect("absent").value(), None);
    }

    #[test]
    fn an_unknown_outcome_is_an_error_not_a_value() {
        for outcome in [0, 99] {
            let result = KeyResult { outcome, ..KeyResult::default() };
            assert_eq!(read(result).expect_err("unknown").kind(), "invalid_response");
        }
    }

    #[test]
    fn an_error_of_one_key_carries_what_the_member_said() {
        for (code, reason, kind) in [
            (Code::Unavailable, "ORIGIN_UNREACHABLE", "origin"),
            (Code::Unavailable, "MEMBER_STOPPING", "unavailable"),
            (Code::InvalidArgument, "EMPTY_KEY", "invalid_request"),
        ] {
            let result = KeyResult {
                outcome: Outcome::Error.into(),
                code: code.into(),
                reason: reason.into(),
                message: "text".into(),
                ..KeyResult::default()
            };
            let error = read(result).expect_err("an error");
            let answer = error.answer().expect("from a member");
            assert_eq!((error.kind(), error.reason()), (kind, Some(reason)));
            assert_eq!((&*answer.address, &*answer.message), ("10.0.0.1:7600", "text"));
        }
    }
}
