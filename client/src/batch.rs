//! Reads of many keys: put together by owner, answered in the order asked.

use bytes::Bytes;
use futures::future::join_all;
use larder_proto::v1::{GetManyRequest, KeyResult};
use tonic::Status;

use crate::answer::{Answer, from_result};
use crate::call::Route;
use crate::client::{Client, cache, timed};
use crate::error::Error;
use crate::key::Key;
use crate::near::{Fence, Near};

impl Client {
    /// Reads many keys of one group, in the order asked, with one request to each owner when the
    /// ring is known (in parts above `max_batch_keys`). A key's own error is final; a request
    /// that fails as a whole is tried again like any other.
    ///
    /// # Errors
    /// Never as a whole: every key carries its own outcome.
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
            let wanted = batch.iter().map(|i| keys[*i].clone()).collect();
            self.read_batch(group, wanted, fence)
        });
        for (batch, results) in batches.iter().zip(join_all(calls).await) {
            for (at, result) in batch.iter().zip(results) {
                answers[*at] = Some(result);
            }
        }
        answers.into_iter().map(|a| a.expect("every key is in the near cache or a batch")).collect()
    }

    /// Puts the indices of keys of one owner together.
    fn batches(
        &self,
        group: &str,
        keys: &[Bytes],
        wanted: impl Iterator<Item = usize>,
    ) -> Vec<Vec<usize>> {
        let mut by_owner: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for at in wanted {
            let owner = self.inner.directory.owner(group, &keys[at]);
            match by_owner.iter_mut().find(|(o, _)| *o == owner) {
                Some((_, batch)) => batch.push(at),
                None => by_owner.push((owner, vec![at])),
            }
        }
        let size = self.inner.settings.batch_keys;
        by_owner.iter().flat_map(|(_, batch)| batch.chunks(size).map(<[_]>::to_vec)).collect()
    }

    async fn read_batch(
        &self,
        group: &str,
        keys: Vec<Bytes>,
        fence: Option<Fence>,
    ) -> Vec<Result<Answer, Error>> {
        let limit = self.inner.settings.max_answer_bytes;
        let explain = self.inner.near.is_some();
        let results: Result<Vec<KeyResult>, Error> = self
            .call(self.timeout, Route::Key(group, &keys[0]), |channel, left| {
                let asked = keys.len();
                let request = GetManyRequest { group: group.into(), keys: keys.clone(), explain };
                async move {
                    let response = cache(channel, limit).get_many(timed(request, left)).await?;
                    let results = response.into_inner().results;
                    if results.len() != asked {
                        return Err(Status::internal("as many results as keys were expected"));
                    }
                    Ok(results)
                }
            })
            .await;
        let results = match results {
            Ok(results) => results,
            Err(error) => return vec![Err(error); keys.len()],
        };
        let answers = keys.iter().zip(results).map(|(key, result)| {
            let answer = from_result(result)?;
            if let (Some(near), Some(fence)) = (&self.inner.near, fence) {
                near.keep(group, key, &answer, fence);
                self.learn_from(&answer);
            }
            Ok(answer.explained(false))
        });
        answers.collect()
    }
}
