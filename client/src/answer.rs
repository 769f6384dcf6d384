//! Answers as callers see them.

use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1;
use larder_proto::v1::{Explanation, KeyResult, Outcome};

use crate::error::Error;

/// What the cache says about one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// There is a value, perhaps an empty one.
    Found {
        /// A view into the received buffer; cloning it copies nothing.
        value: Bytes,
        /// Past its time to live, and allowed by the group's freshness.
        stale: bool,
        /// When it was asked for.
        explanation: Option<Box<Explanation>>,
    },
    /// The origin says there is no such key.
    Absent {
        /// When it was asked for.
        explanation: Option<Box<Explanation>>,
    },
}

impl Answer {
    /// The value; nothing when absent.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Found { value, .. } => Some(value),
            Self::Absent { .. } => None,
        }
    }

    /// True for an answer past its time to live.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Found { stale: true, .. })
    }

    /// Where the answer came from, when it was asked for.
    #[must_use]
    pub fn explanation(&self) -> Option<&Explanation> {
        match self {
            Self::Found { explanation, .. } | Self::Absent { explanation } => {
                explanation.as_deref()
            }
        }
    }

    /// The same without what was not asked for.
    pub(crate) fn explained(mut self, wanted: bool) -> Self {
        let (Self::Found { explanation, .. } | Self::Absent { explanation }) = &mut self;
        if !wanted {
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

/// Reads one key's part of a batch.
pub(crate) fn from_result(result: KeyResult) -> Result<Answer, Error> {
    let explanation = result.explanation.map(Box::new);
    match Outcome::try_from(result.outcome) {
        Ok(Outcome::Found) => {
            Ok(Answer::Found { value: result.value, stale: result.stale, explanation })
        }
        Ok(Outcome::Absent) => Ok(Answer::Absent { explanation }),
        Ok(Outcome::Error) => {
            let after = (result.retry_after_ms > 0).then_some(result.retry_after_ms);
            let after = after.map(|ms| Duration::from_millis(ms.into()));
            Err(Error::from_answer(result.code.into(), result.message, after))
        }
        Ok(Outcome::Unspecified) | Err(_) => {
            Err(Error::Nonsense { reason: format!("outcome {}", result.outcome) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_not_empty_and_not_an_error() {
        let empty = KeyResult { outcome: Outcome::Found.into(), ..KeyResult::default() };
        let absent = KeyResult { outcome: Outcome::Absent.into(), ..KeyResult::default() };
        assert_eq!(from_result(empty).expect("found").value(), Some(&Bytes::new()));
        assert_eq!(from_result(absent).expect("absent").value(), None);
    }

    #[test]
    fn an_outcome_of_a_later_version_is_an_error_not_a_value() {
        for outcome in [0, 99] {
            let result = KeyResult { outcome, ..KeyResult::default() };
            assert_eq!(from_result(result).expect_err("unknown").kind(), "nonsense");
        }
    }
}
