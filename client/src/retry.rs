//! Pure: classifies a failed try and decides whether and when the next round starts.
//!
//! A *round* asks every known member once, the owner first, until one answers; the back-off
//! separates rounds. Reads and invalidations are idempotent, so a call is always repeated after a
//! broken connection.

use std::error::Error as _;
use std::time::Duration;

use larder_backoff::BackoffPolicy;
use larder_proto::v1::KeyResult;
use tonic::{Code, Status};

/// Trailer with the milliseconds after which to retry; a negative number means never.
/// Source: gRFC A6, "Pushback".
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How often a call is repeated, and the delay before each further round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Rounds after the first one; 0 tries once.
    pub retries: u32,
    /// Delays between the rounds.
    pub backoff: BackoffPolicy,
}

/// What a failed try means for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection failed: try another member at once.
    Unreachable,
    /// The member is unavailable: try another one at once.
    TryAnother,
    /// The member is overloaded and asks for a retry after this delay.
    Pushback(Duration),
    /// Another try would fail the same way.
    Final,
}

impl Default for Retry {
    /// Three more rounds after 1, 2 and 4 seconds, each delay up to a fifth shorter.
    fn default() -> Self {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(4));
        let backoff = BackoffPolicy::new(first, 2, longest, 20).expect("first <= longest");
        Self { retries: 3, backoff }
    }
}

impl Retry {
    /// One round, no further try.
    #[must_use]
    pub fn never() -> Self {
        Self { retries: 0, ..Self::default() }
    }

    /// The delay after `failed` rounds (1 or more), given a random ratio in `0.0..1.0`; `None`
    /// when no round is left.
    pub(crate) fn delay(&self, failed: u32, ratio: f64) -> Option<Duration> {
        (failed <= self.retries).then(|| self.backoff.delay(failed, ratio))
    }
}

/// Classifies a failed try.
pub(crate) fn judge(status: &Status) -> Verdict {
    // Only a status created on this side has a source: the transport's error.
    if status.source().is_some() {
        return Verdict::Unreachable;
    }
    match status.code() {
        Code::Unavailable => Verdict::TryAnother,
        Code::ResourceExhausted => pushback(status).map_or(Verdict::Final, Verdict::Pushback),
        _ => Verdict::Final,
    }
}

/// The status that a key's error in a batch would have in a call of its own.
pub(crate) fn key_status(result: KeyResult) -> Status {
    let mut status = Status::new(result.code.into(), result.message);
    if result.retry_after_ms > 0 {
        status.metadata_mut().insert(PUSHBACK, result.retry_after_ms.into());
    }
    status
}

fn pushback(status: &Status) -> Option<Duration> {
    let text = status.metadata().get(PUSHBACK)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_delays_are_one_two_and_four_seconds() {
        let delays: Vec<_> = (1..=4).map(|n| Retry::default().delay(n, 0.0)).collect();
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(delays, [s(1), s(2), s(4), None]);
    }

    #[test]
    fn jitter_shortens_by_at_most_its_share() {
        for failed in 1..=3 {
            let full = Retry::default().delay(failed, 0.0).expect("a round");
            let cut = Retry::default().delay(failed, 0.999).expect("a round");
            assert!(cut < full && cut >= full.mul_f64(0.8), "{failed}: {cut:?} of {full:?}");
        }
    }

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
}
