//! Reads of many keys: grouped by owner, answered in the order of the keys.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use larder_proto::v1::GetManyRequest;
use tokio::time::Instant;
use tonic::Status;

use crate::answer::{Answer, from_result};
use crate::call::Route;
use crate::client::Client;
use crate::error::Error;
use crate::key::Key;
use crate::near::{Fence, Near};
use crate::request::{cache, with_timeout};

/// Reason of a key whose value did not fit in a response: docs/reference/errors.md.
const RESPONSE_FULL: &str = "RESPONSE_FULL";

impl Client {
    /// Reads many keys of one group; the answers have the order of the keys. While the ring is
    /// known, each owner gets one request, or several with more than `max_batch_keys` or with more
    /// values than one response takes. The error of one key is final; a request that fails as a
    /// whole is retried like any other.
    ///
    /// # Errors
    /// Never as a whole: every key has its own result.
    pub async fn get_many<K: Key>(
        &self,
        group: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Result<Answer, Error>> {
        let keys: Vec<Bytes> = keys.into_iter().map(Key::into_bytes).collect();
        let mut answers: Vec<Option<Result<Answer, Error>>> =
            keys.iter().map(|key| self.near(group, key, false).map(Ok)).collect();
        let fence = self.inner.near.as_ref().map(Near::fence);
        let missing = (0..keys.len()).filter(|i| answers[*i].is_none());
        let batches = self.batches(group, &keys, missing);
        let calls = batches.iter().map(|batch| {
            let keys = batch.iter().map(|i| keys[*i].clone()).collect();
            self.read_batch(group, keys, fence)
        });
        for (batch, results) in batches.iter().zip(join_all(calls).await) {
            for (at, result) in batch.iter().zip(results) {
                answers[*at] = Some(result);
            }
        }
        answers.into_iter().map(|a| a.expect("every key is in the near cache or a batch")).collect()
    }

    /// The indices of `missing` keys, grouped by owner and split at the batch limit.
    fn batches(
        &self,
        group: &str,
        keys: &[Bytes],
        missing: impl Iterator<Item = usize>,
    ) -> Vec<Vec<usize>> {
        let mut by_owner: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        let directory = &self.inner.dispatcher.directory;
        let (spread, placed): (Vec<usize>, Vec<usize>) =
            missing.partition(|at| directory.is_spread(group, &keys[*at]));
        for at in placed {
            let owner = directory.owner(group, &keys[at]);
            match by_owner.iter_mut().find(|(o, _)| *o == owner) {
                Some((_, batch)) => batch.push(at),
                None => by_owner.push((owner, vec![at])),
            }
        }
        // Any member answers them, so they join requests that are sent anyway.
        if by_owner.is_empty() && !spread.is_empty() {
            by_owner.push((None, Vec::new()));
        }
        for at in spread {
            let batch = directory.turn() % by_owner.len();
            by_owner[batch].1.push(at);
        }
        let size = self.inner.dispatcher.settings.batch_keys;
        by_owner.iter().flat_map(|(_, batch)| batch.chunks(size).map(<[_]>::to_vec)).collect()
    }

    /// Reads the keys of one owner, in as many requests as their values need responses.
    async fn read_batch(
        &self,
        group: &str,
        keys: Vec<Bytes>,
        fence: Option<Fence>,
    ) -> Vec<Result<Answer, Error>> {
        let deadline = Instant::now() + self.timeout;
        let mut answers = self.request_batch(group, &keys, fence, self.timeout).await;
        let mut left: Vec<usize> = refused(&answers, 0..keys.len());
        // Each response has room for at least one value, so every request leaves fewer keys.
        let mut before = keys.len();
        while !left.is_empty() && left.len() < before {
            before = left.len();
            let again: Vec<_> = left.iter().map(|at| keys[*at].clone()).collect();
            let limit = deadline.saturating_duration_since(Instant::now());
            let results = self.request_batch(group, &again, fence, limit).await;
            for (at, result) in left.iter().zip(results) {
                answers[*at] = result;
            }
            left = refused(&answers, left);
        }
        answers
    }

    async fn request_batch(
        &self,
        group: &str,
        keys: &[Bytes],
        fence: Option<Fence>,
        limit: Duration,
    ) -> Vec<Result<Answer, Error>> {
        let max_bytes = self.inner.dispatcher.settings.max_answer_bytes;
        let explain = self.inner.near.is_some();
        let route = Route::Owner { group, key: &keys[0] };
        let call = self.inner.dispatcher.call(limit, route, |channel, left| {
            let expected = keys.len();
            let request = GetManyRequest { group: group.into(), keys: keys.to_vec(), explain };
            async move {
                let request = with_timeout(request, left);
                let response = cache(channel, max_bytes).get_many(request).await?;
                let results = response.into_inner().results;
                if results.len() != expected {
                    let text = format!("{} results for {expected} keys", results.len());
                    return Err(Status::internal(text));
                }
                Ok(results)
            }
        });
        let reply = match call.await {
            Ok(reply) => reply,
            Err(error) => return vec![Err(error); keys.len()],
        };
        let answers = keys.iter().zip(reply.message).map(|(key, result)| {
            self.inner.dispatcher.directory.spread(group, key, result.spread_ms);
            let answer = from_result(reply.member.address(), group, result)?;
            if let (Some(near), Some(fence)) = (&self.inner.near, fence) {
                near.keep(group, key, &answer, fence);
                self.learn_from(&answer);
            }
            Ok(answer.explained(false))
        });
        answers.collect()
    }
}

/// Those of the keys whose values did not fit in a response.
fn refused(answers: &[Result<Answer, Error>], keys: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let is_refused = |at: &usize| {
        answers[*at].as_ref().is_err_and(|error| error.reason() == Some(RESPONSE_FULL))
    };
    keys.into_iter().filter(is_refused).collect()
}
