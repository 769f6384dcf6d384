//! `groupcachepb.GroupCache`: lets clients of the groupcache family read unchanged.

use larder_engine::Value;
use larder_proto::groupcachepb::group_cache_server::GroupCache;
use larder_proto::groupcachepb::{GetRequest, GetResponse};
use tonic::{Request, Response, Status};

use super::backend::Backend;
use crate::metrics::{GrpcMetrics, Method};
use crate::status::absent;

/// Serves a backend. Its callers take it for a peer of their own ring, which says nothing about
/// this cluster's owners: they read like applications.
#[derive(Clone)]
pub struct GroupcacheService<B> {
    backend: B,
    metrics: GrpcMetrics,
}

impl<B: Backend> GroupcacheService<B> {
    /// Serves `backend`.
    #[must_use]
    pub fn new(backend: B, metrics: GrpcMetrics) -> Self {
        Self { backend, metrics }
    }

    async fn read(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (metadata, _, GetRequest { group, key }) = request.into_parts();
        match self.backend.read(&metadata, &group, key, false).await?.value {
            Value::Present(value) => Ok(Response::new(GetResponse { value, minute_qps: 0.0 })),
            Value::Absent => Err(absent()),
        }
    }
}

#[tonic::async_trait]
impl<B: Backend> GroupCache for GroupcacheService<B> {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let timer = self.metrics.begin(Method::GroupcacheGet);
        timer.end(self.read(request).await)
    }
}
