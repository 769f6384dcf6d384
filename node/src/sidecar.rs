//! A sidecar's doors: the same services as a member's, answered by [`larder_client`] with its near
//! cache. It owns no key and keeps nothing of its own.

use bytes::Bytes;
use futures::future::join_all;
use larder_client::{Answer, Client, Error};
use larder_proto::groupcachepb;
use larder_proto::groupcachepb::group_cache_server::GroupCache;
use larder_proto::v1::cache_server::Cache;
use larder_proto::v1::{
    GetManyRequest, GetManyResponse, GetRequest, GetResponse, InvalidateRequest,
    InvalidateResponse, KeyResult, Outcome,
};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tonic_types::ErrorDetails;

use crate::grpc::{deadline, status};
use crate::metrics::{GrpcMetrics, Method};

/// Serves both protocols through a client.
#[derive(Clone)]
pub struct Sidecar {
    client: Client,
    metrics: GrpcMetrics,
    default_timeout: std::time::Duration,
    max_batch_keys: usize,
}

impl Sidecar {
    /// Answers through `client`.
    #[must_use]
    pub fn new(
        client: Client,
        metrics: GrpcMetrics,
        default_timeout: std::time::Duration,
        max_batch_keys: usize,
    ) -> Self {
        Self { client, metrics, default_timeout, max_batch_keys }
    }

    /// The client whose calls end with the caller's own.
    fn client(&self, metadata: &MetadataMap) -> Client {
        let now = Instant::now();
        let end = deadline(metadata, now + self.default_timeout);
        self.client.with_timeout(end.saturating_duration_since(now))
    }

    async fn ask(
        &self,
        metadata: &MetadataMap,
        group: &str,
        key: Bytes,
        explain: bool,
    ) -> Result<Answer, Status> {
        if let Some(answer) = self.client.near(group, &key, explain) {
            return Ok(answer);
        }
        let client = self.client(metadata);
        let asked =
            if explain { client.explain(group, key).await } else { client.get(group, key).await };
        asked.map_err(|error| to_status(&error))
    }
}

fn to_status(error: &Error) -> Status {
    status::told(error.code(), error.to_string(), ErrorDetails::new(), error.retry_after())
}

fn to_result(answer: Result<Answer, Error>) -> KeyResult {
    match answer {
        Ok(Answer::Found { value, stale, explanation }) => KeyResult {
            outcome: Outcome::Found.into(),
            value,
            stale,
            explanation: explanation.map(|boxed| *boxed),
            ..KeyResult::default()
        },
        Ok(Answer::Absent { explanation }) => KeyResult {
            outcome: Outcome::Absent.into(),
            explanation: explanation.map(|boxed| *boxed),
            ..KeyResult::default()
        },
        Err(error) => KeyResult {
            outcome: Outcome::Error.into(),
            code: error.code().into(),
            message: error.to_string(),
            retry_after_ms: status::retry_after_ms(error.retry_after()),
            ..KeyResult::default()
        },
    }
}

#[tonic::async_trait]
impl Cache for Sidecar {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let timed = self.metrics.begin(Method::Get);
        let (metadata, _, GetRequest { group, key, explain }) = request.into_parts();
        timed.end(match self.ask(&metadata, &group, key, explain).await {
            Ok(Answer::Found { value, stale, explanation }) => {
                let explanation = explanation.filter(|_| explain).map(|boxed| *boxed);
                Ok(Response::new(GetResponse { value, stale, explanation }))
            }
            Ok(Answer::Absent { .. }) => Err(status::absent()),
            Err(status) => Err(status),
        })
    }

    async fn get_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let timed = self.metrics.begin(Method::GetMany);
        let (metadata, _, GetManyRequest { group, keys, explain }) = request.into_parts();
        if keys.len() > self.max_batch_keys {
            let text = format!("more keys than the limit of {}", self.max_batch_keys);
            return timed.end(Err(Status::invalid_argument(text)));
        }
        let client = self.client(&metadata);
        let answers = if explain {
            // Explanations are for people; a call a key is dear enough for them.
            join_all(keys.into_iter().map(|key| client.explain(&group, key))).await
        } else {
            client.get_many(&group, keys).await
        };
        let unknown = answers.iter().find_map(|answer| match answer {
            Err(error @ Error::UnknownGroup { .. }) => Some(to_status(error)),
            _ => None,
        });
        timed.end(match unknown {
            Some(status) => Err(status),
            None => {
                let results = answers.into_iter().map(to_result).collect();
                Ok(Response::new(GetManyResponse { results }))
            }
        })
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let timed = self.metrics.begin(Method::Invalidate);
        let (metadata, _, InvalidateRequest { group, keys }) = request.into_parts();
        let done = self.client(&metadata).invalidate(&group, keys).await;
        timed.end(match done {
            Ok(done) => Ok(Response::new(InvalidateResponse {
                members_reached: done.members_reached,
                members_total: done.members_total,
            })),
            Err(error) => Err(to_status(&error)),
        })
    }
}

#[tonic::async_trait]
impl GroupCache for Sidecar {
    async fn get(
        &self,
        request: Request<groupcachepb::GetRequest>,
    ) -> Result<Response<groupcachepb::GetResponse>, Status> {
        let timed = self.metrics.begin(Method::GroupcacheGet);
        let (metadata, _, groupcachepb::GetRequest { group, key }) = request.into_parts();
        timed.end(match self.ask(&metadata, &group, key, false).await {
            Ok(Answer::Found { value, .. }) => {
                Ok(Response::new(groupcachepb::GetResponse { value, minute_qps: 0.0 }))
            }
            Ok(Answer::Absent { .. }) => Err(status::absent()),
            Err(status) => Err(status),
        })
    }
}
