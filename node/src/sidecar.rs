//! A sidecar: [`larder_client`] and its near cache as the [`Backend`] of the services for
//! applications. It owns no key and stores nothing itself.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use larder_client::{Answer, Client, Error};
use larder_engine::Value;
use larder_proto::v1::{InvalidateRequest, InvalidateResponse};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::cache::Scope;
use crate::grpc::{Backend, ReadReply, call_deadline};
use crate::status::ErrorReply;

/// Answers from a client.
#[derive(Clone)]
pub struct Sidecar {
    client: Client,
    default_timeout: Duration,
    max_batch_keys: usize,
}

impl Sidecar {
    /// Answers from `client`. A call without a deadline gets `default_timeout`.
    #[must_use]
    pub fn new(client: Client, default_timeout: Duration, max_batch_keys: usize) -> Self {
        Self { client, default_timeout, max_batch_keys }
    }

    /// The client with the deadline of the caller.
    fn client(&self, metadata: &MetadataMap) -> Client {
        let now = Instant::now();
        let deadline = call_deadline(metadata, now + self.default_timeout);
        self.client.with_timeout(deadline.saturating_duration_since(now))
    }
}

impl Backend for Sidecar {
    fn max_batch_keys(&self) -> usize {
        self.max_batch_keys
    }

    async fn read(
        &self,
        metadata: &MetadataMap,
        group: &str,
        key: Bytes,
        explain: bool,
    ) -> Result<ReadReply, ErrorReply> {
        let client = self.client(metadata);
        let answer =
            if explain { client.explain(group, key).await } else { client.get(group, key).await };
        Ok(reply(answer?))
    }

    async fn read_many(
        &self,
        metadata: &MetadataMap,
        group: &str,
        keys: Vec<Bytes>,
        explain: bool,
    ) -> Result<Vec<Result<ReadReply, ErrorReply>>, ErrorReply> {
        let client = self.client(metadata);
        let answers = if explain {
            // One call for each key: explanations are for people, who ask for few keys.
            join_all(keys.into_iter().map(|key| client.explain(group, key))).await
        } else {
            client.get_many(group, keys).await
        };
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            replies.push(match answer {
                Ok(answer) => Ok(reply(answer)),
                Err(error @ Error::UnknownGroup { .. }) => return Err(error.into()),
                Err(error) => Err(error.into()),
            });
        }
        Ok(replies)
    }

    async fn invalidate(
        &self,
        metadata: &MetadataMap,
        group: &str,
        scope: Scope,
    ) -> Result<InvalidateResponse, ErrorReply> {
        let Scope { keys, tags } = scope;
        let request = InvalidateRequest { group: group.into(), keys, tags };
        let done = self.client(metadata).invalidate_scope(request).await?;
        Ok(InvalidateResponse {
            members_reached: done.members_reached,
            members_total: done.members_total,
        })
    }
}

fn reply(answer: Answer) -> ReadReply {
    let (value, stale, explanation) = match answer {
        Answer::Found { value, stale, explanation } => (Value::Present(value), stale, explanation),
        Answer::Absent { explanation } => (Value::Absent, false, explanation),
    };
    ReadReply { value, stale, explanation: explanation.map(|boxed| *boxed), spread_ms: 0 }
}

impl From<Error> for ErrorReply {
    fn from(error: Error) -> Self {
        // A member's answer passes unchanged, also if the client retried it until the deadline: it
        // says why there is no value.
        match error.answer() {
            Some(answer) => Self {
                code: answer.code,
                reason: answer.reason.clone().unwrap_or_default(),
                message: answer.message.clone(),
                retry_after: answer.retry_after,
            },
            None => Self {
                code: error.code(),
                reason: String::new(),
                message: error.to_string(),
                retry_after: None,
            },
        }
    }
}
