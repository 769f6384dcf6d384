//! `larder.v1.Cache`: the service for applications.

use larder_engine::Value;
use larder_proto::v1::cache_server::Cache;
use larder_proto::v1::{
    GetManyRequest, GetManyResponse, GetRequest, GetResponse, InvalidateRequest,
    InvalidateResponse, KeyResult,
};
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::response::limit_response;
use crate::cache::{Error, Scope};
use crate::metrics::{GrpcMetrics, Method};
use crate::status::{ErrorReply, absent};

/// Serves a backend.
#[derive(Clone)]
pub struct CacheService<B> {
    backend: B,
    metrics: GrpcMetrics,
}

impl<B: Backend> CacheService<B> {
    /// Serves `backend`.
    #[must_use]
    pub fn new(backend: B, metrics: GrpcMetrics) -> Self {
        Self { backend, metrics }
    }

    async fn read(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (metadata, _, GetRequest { group, key, explain }) = request.into_parts();
        let reply = self.backend.read(&metadata, &group, key, explain).await?;
        match reply.value {
            Value::Present(value) => Ok(Response::new(GetResponse {
                value,
                stale: reply.stale,
                explanation: reply.explanation,
                spread_ms: reply.spread_ms,
            })),
            Value::Absent => Err(absent()),
        }
    }

    async fn read_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let (metadata, _, GetManyRequest { group, keys, explain }) = request.into_parts();
        let max = self.backend.max_batch_keys();
        if keys.len() > max {
            return Err(ErrorReply::from(Error::TooManyKeys { keys: keys.len(), max }).into());
        }
        let replies = self.backend.read_many(&metadata, &group, keys, explain).await?;
        let results = replies.into_iter().map(|reply| match reply {
            Ok(reply) => KeyResult::from(reply),
            Err(error) => KeyResult::from(error),
        });
        let mut results: Vec<_> = results.collect();
        // Without its message, which a thousand refusals would repeat.
        let refusal = ErrorReply { message: String::new(), ..Error::ResponseFull.into() };
        limit_response(&mut results, &refusal.into());
        Ok(Response::new(GetManyResponse { results }))
    }
}

#[tonic::async_trait]
impl<B: Backend> Cache for CacheService<B> {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let timer = self.metrics.begin(Method::Get);
        timer.end(self.read(request).await)
    }

    async fn get_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let timer = self.metrics.begin(Method::GetMany);
        timer.end(self.read_many(request).await)
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let timer = self.metrics.begin(Method::Invalidate);
        let (metadata, _, InvalidateRequest { group, keys, tags }) = request.into_parts();
        let done = self.backend.invalidate(&metadata, &group, Scope { keys, tags }).await;
        timer.end(done.map(Response::new).map_err(Status::from))
    }
}
