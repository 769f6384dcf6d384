//! The answer to one read, as it travels inside the member. It makes no decisions.

use bytes::Bytes;
use larder_engine::{Hit, Tags, Value};
use larder_proto::v1::{self, Source, StaleReason};

/// The answer for one key, and how this member came by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The value, or that the origin has no such key.
    pub value: Value,
    /// How this member came by it, also if absent. See [`Answer::reported_source`].
    pub source: Source,
    /// Why a value past its TTL is the answer; `Unspecified` if it is not past it.
    pub stale_reason: StaleReason,
    /// Time since it was loaded, ms.
    pub age_ms: u64,
    /// Time until it is no longer fresh, ms; 0 if stale.
    pub remaining_ms: u64,
    /// Time in which it may still be answered, ms, if stale; 0 if not.
    pub stale_remaining_ms: u64,
    /// Number of the load that produced it. A larger number is a later load of the key.
    pub version: u64,
    /// This member's ring places the key elsewhere.
    pub not_owner: bool,
    /// Identifies the origin that it was loaded from, among those of its group; 0 if unknown.
    pub origin_id: u64,
    /// By which it can be invalidated, here and as a copy at another member.
    pub tags: Tags,
    /// How long callers that know the ring should read the key at all members in turn; 0 if at its
    /// owner.
    pub spread_ms: u32,
}

impl Answer {
    /// The value; `None` if absent.
    #[must_use]
    pub fn present(&self) -> Option<&Bytes> {
        self.value.present()
    }

    /// The source for an explanation: `ABSENT` for an absent key, wherever that was known from.
    #[must_use]
    pub fn reported_source(&self) -> Source {
        if self.value == Value::Absent { Source::Absent } else { self.source }
    }

    /// True if it is past its TTL, as the group's freshness allows.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale_reason != StaleReason::Unspecified
    }

    /// From an entry that is fresh for another `remaining_ms`. `source` names its store.
    pub(super) fn fresh(mut hit: Hit, source: Source, remaining_ms: u64, now_ms: u64) -> Self {
        Self {
            tags: std::mem::take(&mut hit.tags),
            age_ms: now_ms.saturating_sub(hit.stored_at.as_millis()),
            source,
            stale_reason: StaleReason::Unspecified,
            remaining_ms,
            stale_remaining_ms: 0,
            version: hit.version,
            not_owner: false,
            origin_id: 0,
            spread_ms: 0,
            value: hit.into_value(),
        }
    }

    /// From an entry past its TTL that may be answered for another `stale_remaining_ms`.
    pub(super) fn stale(
        hit: Hit,
        stale_reason: StaleReason,
        stale_remaining_ms: u64,
        now_ms: u64,
    ) -> Self {
        Self { stale_reason, stale_remaining_ms, ..Self::fresh(hit, Source::Stale, 0, now_ms) }
    }

    /// True if it must not be answered `ms` later to a read that begins then. A fresh answer without
    /// a remaining life is for the reads that waited for its load.
    pub(super) fn is_over_after(&self, ms: u64) -> bool {
        if self.is_stale() {
            ms >= self.stale_remaining_ms
        } else {
            self.remaining_ms > 0 && ms >= self.remaining_ms
        }
    }

    /// The same answer `ms` later.
    #[must_use]
    pub fn aged(self, ms: u64) -> Self {
        Self {
            age_ms: self.age_ms.saturating_add(ms),
            remaining_ms: self.remaining_ms.saturating_sub(ms),
            stale_remaining_ms: self.stale_remaining_ms.saturating_sub(ms),
            ..self
        }
    }

    /// From a peer's result. `None` if its outcome is an error or unknown to this version.
    #[must_use]
    pub fn from_peer(result: &v1::FetchResult) -> Option<Self> {
        let value = match result.outcome() {
            v1::Outcome::Found => Value::Present(result.value.clone()),
            v1::Outcome::Absent => Value::Absent,
            v1::Outcome::Error | v1::Outcome::Unspecified => return None,
        };
        // A hit at the peer, from whichever store, is a hit at the owner from here.
        let source = match result.source() {
            source @ (Source::Loaded | Source::Stale) => source,
            Source::Local | Source::Hot | Source::Owner | Source::Absent | Source::Unspecified => {
                Source::Owner
            }
        };
        Some(Self {
            value,
            source,
            // A stale result always has a reason.
            stale_reason: result.stale_reason(),
            age_ms: result.age_ms,
            remaining_ms: result.remaining_ms,
            stale_remaining_ms: result.stale_remaining_ms,
            version: result.version,
            not_owner: result.not_owner,
            origin_id: result.origin_id,
            tags: Tags::from_slots(result.tag_slots.iter().copied()),
            spread_ms: 0,
        })
    }

    /// The result for the peer that asked.
    #[must_use]
    pub fn into_peer(self) -> v1::FetchResult {
        let stale = self.is_stale();
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
            stale_remaining_ms: self.stale_remaining_ms,
            version: self.version,
            stale,
            stale_reason: self.stale_reason.into(),
            not_owner: self.not_owner,
            origin_id: self.origin_id,
            tag_slots: self.tags.slots().iter().copied().map(u32::from).collect(),
            ..v1::FetchResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_remaining_ttl_and_its_tags_on_the_wire() {
        let answer = Answer {
            value: Value::Present("630".into()),
            source: Source::Local,
            stale_reason: StaleReason::Unspecified,
            age_ms: 5,
            remaining_ms: 995,
            stale_remaining_ms: 0,
            version: 7,
            not_owner: false,
            origin_id: 9,
            tags: Tags::from_iter(["course:7", "school"]),
            spread_ms: 0,
        };
        let received = Answer::from_peer(&answer.clone().into_peer()).expect("an answer");
        assert_eq!(received, Answer { source: Source::Owner, ..answer });
    }

    #[test]
    fn absent_and_empty_remain_distinct_on_the_wire() {
        let base = Answer {
            value: Value::Absent,
            source: Source::Loaded,
            stale_reason: StaleReason::Unspecified,
            age_ms: 0,
            remaining_ms: 1,
            stale_remaining_ms: 0,
            version: 1,
            not_owner: true,
            origin_id: 0,
            tags: Tags::default(),
            spread_ms: 0,
        };
        let empty = Answer { value: Value::Present(Bytes::new()), ..base.clone() };
        let round_trip = |answer: &Answer| Answer::from_peer(&answer.clone().into_peer());
        assert_eq!(round_trip(&base).expect("an answer").present(), None);
        assert_eq!(round_trip(&empty).expect("an answer").present(), Some(&Bytes::new()));
    }

    #[test]
    fn an_error_is_no_answer() {
        let error = v1::FetchResult { outcome: v1::Outcome::Error.into(), ..Default::default() };
        assert_eq!(Answer::from_peer(&error), None);
    }
}
