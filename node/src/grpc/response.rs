//! Responses with many keys: waits for all of them and limits their size.

use futures::future::join_all;
use prost::Message;
use tokio::time::Instant;

use crate::cache::{Answer, Error, Lookup};

/// gRPC's common receive limit, less the response's own fields. A value of the largest size fits
/// next to the refusals of a thousand keys.
const RESPONSE_BYTES: usize = 4 * 1024 * 1024 - 1024;
/// Most bytes for the tag and the length of one result.
const FRAME_BYTES: usize = 6;

/// Limits a response to what stock clients receive: results that do not fit are replaced by
/// `refusal`.
pub(super) fn limit_response<T: Message + Clone>(results: &mut [T], refusal: &T) {
    let bytes = |result: &T| result.encoded_len() + FRAME_BYTES;
    let refused = bytes(refusal);
    // Every result takes at least the room of its refusal, so that all results have a place.
    let mut left_bytes = RESPONSE_BYTES.saturating_sub(results.len() * refused);
    for result in results {
        match left_bytes.checked_sub(bytes(result).saturating_sub(refused)) {
            Some(left) => left_bytes = left,
            None => *result = refusal.clone(),
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
    use larder_proto::v1::{GetManyResponse, KeyResult, Outcome};

    use super::*;

    fn found(bytes: usize) -> KeyResult {
        let value = Bytes::from(vec![0; bytes]);
        KeyResult { outcome: Outcome::Found.into(), value, ..KeyResult::default() }
    }

    fn refusal() -> KeyResult {
        let reason = "RESPONSE_FULL".into();
        KeyResult { outcome: Outcome::Error.into(), code: 8, reason, ..KeyResult::default() }
    }

    /// The sizes of the values that a response passes, after a check of its own size.
    fn passed(sizes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut results: Vec<_> = sizes.into_iter().map(found).collect();
        limit_response(&mut results, &refusal());
        let response = GetManyResponse { results };
        assert!(response.encoded_len() <= 4 << 20, "{} bytes", response.encoded_len());
        let passed = response.results.iter().filter(|result| result.outcome() == Outcome::Found);
        passed.map(|result| result.value.len()).collect()
    }

    #[test]
    fn a_full_response_still_takes_a_smaller_value() {
        assert_eq!(passed([3 << 20, 3 << 20, 1 << 19]), [3 << 20, 1 << 19]);
    }

    #[test]
    fn a_value_of_the_largest_size_fits_next_to_the_refusals_of_a_thousand_keys() {
        let largest = (4 << 20) - (64 << 10);
        assert_eq!(passed(vec![largest; 1_000]), [largest]);
    }

    #[test]
    fn the_fields_around_small_values_count() {
        let passed = passed(vec![40; 90_000]).len();
        assert!((60_000..90_000).contains(&passed), "{passed}");
    }
}
