//! A member's cache as a [`Backend`].

use bytes::Bytes;
use larder_proto::v1::InvalidateResponse;
use tonic::metadata::MetadataMap;

use super::backend::{Backend, ReadReply};
use super::deadline::call_deadline;
use super::response::finish_all;
use crate::cache::{Answer, Cache, Caller, Error, Scope};
use crate::status::ErrorReply;

impl Backend for Cache {
    fn max_batch_keys(&self) -> usize {
        self.limits().max_batch_keys
    }

    async fn read(
        &self,
        metadata: &MetadataMap,
        group: &str,
        key: Bytes,
        explain: bool,
    ) -> Result<ReadReply, ErrorReply> {
        // Evaluated only if the read waits: a hit does not parse the header.
        let deadline = || call_deadline(metadata, self.default_deadline());
        let answer = self.read_until(group, &key, deadline).await?;
        Ok(reply(self, group, &key, answer, explain))
    }

    async fn read_many(
        &self,
        metadata: &MetadataMap,
        group: &str,
        keys: Vec<Bytes>,
        explain: bool,
    ) -> Result<Vec<Result<ReadReply, ErrorReply>>, ErrorReply> {
        let deadline = call_deadline(metadata, self.default_deadline());
        // Every lookup starts before any is awaited, so that the keys share batches.
        let lookups = self.get_many(keys.iter().map(|key| (group, &**key, Caller::Application)));
        let mut replies = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(finish_all(lookups, deadline).await) {
            replies.push(match answer {
                Ok(answer) => Ok(reply(self, group, key, answer, explain)),
                Err(error @ (Error::UnknownGroup { .. } | Error::NotJoined)) => {
                    return Err(error.into());
                }
                Err(error) => Err(error.into()),
            });
        }
        Ok(replies)
    }

    async fn invalidate(
        &self,
        _: &MetadataMap,
        group: &str,
        scope: Scope,
    ) -> Result<InvalidateResponse, ErrorReply> {
        let done = Self::invalidate(self, group, scope).await?;
        Ok(InvalidateResponse { members_reached: done.reached, members_total: done.total })
    }
}

fn reply(cache: &Cache, group: &str, key: &[u8], answer: Answer, explain: bool) -> ReadReply {
    let explanation = explain.then(|| cache.explain(group, key, &answer));
    let (stale, spread_ms) = (answer.is_stale(), answer.spread_ms);
    ReadReply { stale, value: answer.value, explanation, spread_ms }
}
