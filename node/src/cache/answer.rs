//! An answer to one key, as it travels inside the member. Owns no decision.

use bytes::Bytes;
use larder_engine::{Hit, Value};
use larder_proto::v1::{self, Source};

/// What is known about one key, and how it came here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The value, or that the origin has none.
    pub value: Value,
    /// How this member came by it; for absent, too ([`Answer::told_source`]).
    pub source: Source,
    /// Past its life and allowed by the group's freshness.
    pub stale: bool,
    /// Milliseconds since it was loaded.
    pub age_ms: u64,
    /// Milliseconds of life left; 0 when stale.
    pub remaining_ms: u64,
    /// Which load of the owner brought it; a larger number is a later load.
    pub version: u64,
    /// This member does not own the key in its own ring.
    pub not_owner: bool,
}

impl Answer {
    /// The value; nothing when absent.
    #[must_use]
    pub fn present(&self) -> Option<&Bytes> {
        self.value.present()
    }

    /// The source as an explanation tells it: absent is told as such, wherever it was known.
    #[must_use]
    pub fn told_source(&self) -> Source {
        if self.value == Value::Absent { Source::Absent } else { self.source }
    }

    /// From an entry that is fresh for another `remaining_ms`. `source` says where it lay.
    pub(super) fn fresh(hit: Hit, source: Source, remaining_ms: u64, now_ms: u64) -> Self {
        Self {
            age_ms: now_ms.saturating_sub(hit.stored_at.as_millis()),
            source,
            stale: false,
            remaining_ms,
            version: hit.version,
            not_owner: false,
            value: hit.into_value(),
        }
    }

    /// From an entry past its life.
    pub(super) fn stale(hit: Hit, now_ms: u64) -> Self {
        Self { stale: true, ..Self::fresh(hit, Source::Stale, 0, now_ms) }
    }

    /// From a peer's result. Nothing when it carries an error or an outcome that we do not know.
    #[must_use]
    pub fn from_peer(result: &v1::FetchResult) -> Option<Self> {
        let value = match result.outcome() {
            v1::Outcome::Found => Value::Present(result.value.clone()),
            v1::Outcome::Absent => Value::Absent,
            v1::Outcome::Error | v1::Outcome::Unspecified => return None,
        };
        // What was near there was far from here.
        let source = match result.source() {
            told @ (Source::Loaded | Source::Stale) => told,
            Source::Local | Source::Hot | Source::Owner | Source::Absent | Source::Unspecified => {
                Source::Owner
            }
        };
        Some(Self {
            value,
            source,
            stale: result.stale,
            age_ms: result.age_ms,
            remaining_ms: result.remaining_ms,
            version: result.version,
            not_owner: result.not_owner,
        })
    }

    /// As a result for the peer that asked.
    #[must_use]
    pub fn into_peer(self) -> v1::FetchResult {
        let (outcome, value) = match self.value {
            Value::Present(value) => (v1::Outcome::Found, value),
            Value::Absent => (v1::Outcome::Absent, Bytes::new()),
        };
        v1::FetchResult {
            outcome: outcome.into(),
            value,
            source: self.source.into(),
            age_ms: self.age_ms,
            remaining_ms: self.remaining_ms,
            version: self.version,
            stale: self.stale,
            not_owner: self.not_owner,
            ..v1::FetchResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_crosses_the_wire_with_its_remaining_life() {
        let answer = Answer {
            value: Value::Present("630".into()),
            source: Source::Local,
            stale: false,
            age_ms: 5,
            remaining_ms: 995,
            version: 7,
            not_owner: false,
        };
        let there = Answer::from_peer(&answer.clone().into_peer()).expect("an answer");
        assert_eq!(there, Answer { source: Source::Owner, ..answer });
    }

    #[test]
    fn absent_and_empty_stay_apart_on_the_wire() {
        let base = Answer {
            value: Value::Absent,
            source: Source::Loaded,
            stale: false,
            age_ms: 0,
            remaining_ms: 1,
            version: 1,
            not_owner: true,
        };
        let empty = Answer { value: Value::Present(Bytes::new()), ..base.clone() };
        let back = |answer: &Answer| Answer::from_peer(&answer.clone().into_peer());
        assert_eq!(back(&base).expect("an answer").present(), None);
        assert_eq!(back(&empty).expect("an answer").present(), Some(&Bytes::new()));
    }

    #[test]
    fn an_error_is_no_answer() {
        let error = v1::FetchResult { outcome: v1::Outcome::Error.into(), ..Default::default() };
        assert_eq!(Answer::from_peer(&error), None);
    }
}
