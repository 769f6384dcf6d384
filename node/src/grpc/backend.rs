//! What the services for applications read from.

use std::future::Future;

use bytes::Bytes;
use larder_engine::Value;
use larder_proto::v1::{Explanation, InvalidateResponse, KeyResult, Outcome};
use tonic::metadata::MetadataMap;

use crate::cache::Scope;
use crate::status::ErrorReply;

/// A member's cache, or a sidecar's client. The metadata of a call carries its deadline.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Most keys in one request.
    fn max_batch_keys(&self) -> usize;

    /// Reads one key.
    fn read(
        &self,
        metadata: &MetadataMap,
        group: &str,
        key: Bytes,
        explain: bool,
    ) -> impl Future<Output = Result<ReadReply, ErrorReply>> + Send;

    /// Reads keys of one group, in their order. An error of the whole group is an error of the
    /// call.
    fn read_many(
        &self,
        metadata: &MetadataMap,
        group: &str,
        keys: Vec<Bytes>,
        explain: bool,
    ) -> impl Future<Output = Result<Vec<Result<ReadReply, ErrorReply>>, ErrorReply>> + Send;

    /// Drops a part of a group, or all of it, at every member.
    fn invalidate(
        &self,
        metadata: &MetadataMap,
        group: &str,
        scope: Scope,
    ) -> impl Future<Output = Result<InvalidateResponse, ErrorReply>> + Send;
}

/// The answer for one key.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadReply {
    /// The value, or that the origin has no such key.
    pub value: Value,
    /// Past its TTL, as the group's freshness allows.
    pub stale: bool,
    /// Where the answer came from, if the caller asked for it.
    pub explanation: Option<Explanation>,
    /// As in the response.
    pub spread_ms: u32,
}

impl From<ReadReply> for KeyResult {
    fn from(reply: ReadReply) -> Self {
        let (outcome, value) = match reply.value {
            Value::Present(value) => (Outcome::Found, value),
            Value::Absent => (Outcome::Absent, Bytes::new()),
        };
        Self {
            outcome: outcome.into(),
            value,
            stale: reply.stale,
            explanation: reply.explanation,
            spread_ms: reply.spread_ms,
            ..Self::default()
        }
    }
}
