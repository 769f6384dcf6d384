//! Pure: what a failed try means, and how long to wait before the next round.
//!
//! A *round* asks every known member once, the owner first, until one answers; rounds are what
//! the back-off separates. Reads and invalidations may be repeated, so a broken connection is
//! always worth another try.

use std::error::Error as _;
use std::time::Duration;

use larder_proto::v1::KeyResult;
use tonic::{Code, Status};

use crate::error::BuildError;

/// Trailer in which a server says when to ask again; a negative number means never.
/// Source: gRFC A6, "Pushback".
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How often and how long apart a call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Rounds after the first one; 0 tries once.
    pub retries: u32,
    /// Wait before the second round.
    pub first: Duration,
    /// Each wait is so many times the one before.
    pub factor: u32,
    /// The longest wait.
    pub max: Duration,
    /// Each wait is shortened by a random share of up to so many percent.
    pub jitter_percent: u32,
}

/// What a try's end means for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection failed: ask another member at once.
    Unreachable,
    /// The member says that it cannot now: ask another one at once.
    TryAnother,
    /// The member says when it wants to be asked again.
    Pushback(Duration),
    /// Another try would end the same way.
    Final,
}

impl Default for Retry {
    /// Three more rounds after 1, 2 and 4 seconds, each up to a fifth shorter.
    fn default() -> Self {
        Self {
            retries: 3,
            first: Duration::from_secs(1),
            factor: 2,
            max: Duration::from_secs(4),
            jitter_percent: 20,
        }
    }
}

impl Retry {
    /// One round, no waiting.
    #[must_use]
    pub fn never() -> Self {
        Self { retries: 0, ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if self.jitter_percent > 100 {
            return Err(BuildError::Jitter);
        }
        if self.retries > 0 && (self.first.is_zero() || self.factor == 0 || self.max.is_zero()) {
            return Err(BuildError::Zero { setting: "a retry's wait" });
        }
        Ok(())
    }

    /// The wait after `failed` rounds (1 or more), given a random ratio in `0.0..1.0`; nothing
    /// when there is no further round.
    pub(crate) fn wait(&self, failed: u32, ratio: f64) -> Option<Duration> {
        if failed > self.retries {
            return None;
        }
        let growth = self.factor.saturating_pow(failed.saturating_sub(1));
        let full = self.first.saturating_mul(growth).min(self.max);
        Some(full.mul_f64(1.0 - f64::from(self.jitter_percent) / 100.0 * ratio))
    }
}

/// Judges a failed try.
pub(crate) fn judge(status: &Status) -> Verdict {
    // Only a status that was made on this side has a source: the transport's own error.
    if status.source().is_some() {
        return Verdict::Unreachable;
    }
    match status.code() {
        Code::Unavailable => Verdict::TryAnother,
        Code::ResourceExhausted => pushback(status).map_or(Verdict::Final, Verdict::Pushback),
        _ => Verdict::Final,
    }
}

/// A key's error in a batch, as the status that it would be alone.
pub(crate) fn answered(result: KeyResult) -> Status {
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
    fn the_default_waits_one_two_and_four_seconds() {
        let waits: Vec<_> = (1..=4).map(|n| Retry::default().wait(n, 0.0)).collect();
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(waits, [s(1), s(2), s(4), None]);
    }

    #[test]
    fn jitter_only_shortens_by_its_share() {
        for failed in 1..=3 {
            let full = Retry::default().wait(failed, 0.0).expect("a round");
            let cut = Retry::default().wait(failed, 0.999).expect("a round");
            assert!(cut < full && cut >= full.mul_f64(0.8), "{failed}: {cut:?} of {full:?}");
        }
    }

    #[test]
    fn overload_is_tried_again_only_when_the_member_says_when() {
        let mut status = Status::resource_exhausted("full");
        assert_eq!(judge(&status), Verdict::Final);
        status.metadata_mut().insert(PUSHBACK, "-1".parse().expect("ascii"));
        assert_eq!(judge(&status), Verdict::Final);
        status.metadata_mut().insert(PUSHBACK, "40".parse().expect("ascii"));
        assert_eq!(judge(&status), Verdict::Pushback(Duration::from_millis(40)));
    }

    #[test]
    fn an_overload_of_a_key_in_a_batch_says_when_too() {
        let code = Code::ResourceExhausted.into();
        let result = KeyResult { code, retry_after_ms: 40, ..KeyResult::default() };
        assert_eq!(judge(&answered(result)), Verdict::Pushback(Duration::from_millis(40)));
        let result = KeyResult { code, ..KeyResult::default() };
        assert_eq!(judge(&answered(result)), Verdict::Final);
    }

    #[test]
    fn answers_about_the_request_are_final() {
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
