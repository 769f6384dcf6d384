//! Responses with many keys: waits for all of them and limits their size.

use futures::future::join_all;
use tokio::time::Instant;

use crate::cache::{Answer, Error, Lookup};

/// Bytes of values in one response, below gRPC's common receive limit of 4 MiB. At least one value
/// of the largest size fits.
const RESPONSE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// Limits a response to what stock clients receive.
pub(super) struct ResponseBudget {
    left_bytes: usize,
}

impl ResponseBudget {
    pub(super) fn new() -> Self {
        Self { left_bytes: RESPONSE_BYTES }
    }

    /// Passes an answer that still fits.
    pub(super) fn admit(&mut self, answer: Answer) -> Result<Answer, Error> {
        match self.left_bytes.checked_sub(answer.value.len()) {
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                Ok(answer)
            }
            None => Err(Error::ResponseFull),
        }
    }
}

/// The results of lookups that were all started, in their order. Each answer has aged by the time
/// that the others took, so its remaining TTL is that at the end of the wait.
pub(super) async fn finish_all(
    lookups: Vec<Lookup>,
    deadline: Instant,
) -> Vec<Result<Answer, Error>> {
    let began = Instant::now();
    let mut answers = Vec::with_capacity(lookups.len());
    let mut waits = Vec::new();
    for (index, lookup) in lookups.into_iter().enumerate() {
        answers.push(match lookup {
            Lookup::Done(answer) => (answer, began),
            Lookup::Wait(wait) => {
                waits.push(async move { (index, wait.answer(deadline).await, Instant::now()) });
                (Err(Error::Stopping), began) // Replaced below.
            }
        });
    }
    if waits.is_empty() {
        return answers.into_iter().map(|(answer, _)| answer).collect();
    }
    for (index, answer, at) in join_all(waits).await {
        answers[index] = (answer, at);
    }
    let end = Instant::now();
    // Rounded up: the remaining TTL must not be longer than it is.
    let age_ms =
        |at: Instant| u64::try_from((end - at).as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    let aged = |(answer, at): (Result<Answer, _>, Instant)| answer.map(|a| a.aged(age_ms(at)));
    answers.into_iter().map(aged).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use larder_engine::Value;
    use larder_proto::v1::Source;

    use super::*;

    #[test]
    fn a_full_response_still_takes_a_smaller_value() {
        let answer = |bytes| {
            let value = Value::Present(Bytes::from(vec![0; bytes]));
            Answer {
                value,
                source: Source::Local,
                stale: false,
                age_ms: 0,
                remaining_ms: 1,
                version: 1,
                not_owner: false,
            }
        };
        let mut budget = ResponseBudget::new();
        assert!(budget.admit(answer(3 << 20)).is_ok());
        assert!(matches!(budget.admit(answer(3 << 20)), Err(Error::ResponseFull)));
        assert!(budget.admit(answer(1 << 19)).is_ok());
    }
}
