//! `groupcachepb.GroupCache`: clients of the older family read through it unchanged.

use larder_engine::Value;
use larder_proto::groupcachepb::group_cache_server::GroupCache;
use larder_proto::groupcachepb::{GetRequest, GetResponse};
use tonic::{Request, Response, Status};

use super::{deadline, status};
use crate::cache::{Cache, Hop, Step};
use crate::metrics::{GrpcMetrics, Method};

/// The service.
#[derive(Clone)]
pub struct GroupcacheService {
    cache: Cache,
    metrics: GrpcMetrics,
}

impl GroupcacheService {
    /// Serves `cache`.
    #[must_use]
    pub fn new(cache: Cache, metrics: GrpcMetrics) -> Self {
        Self { cache, metrics }
    }

    async fn read(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (metadata, _, GetRequest { group, key }) = request.into_parts();
        // To its callers a member is a peer, but not one of our ring: the key may lie elsewhere.
        let answer = match self.cache.get(&group, &key, Hop::Client) {
            Step::Done(answer) => answer,
            Step::Wait(wait) => {
                wait.answer(deadline(&metadata, self.cache.default_deadline())).await
            }
        };
        match answer.map_err(|error| status::status(&error))?.value {
            Value::Present(value) => Ok(Response::new(GetResponse { value, minute_qps: 0.0 })),
            Value::Absent => Err(status::absent()),
        }
    }
}

#[tonic::async_trait]
impl GroupCache for GroupcacheService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let timed = self.metrics.begin(Method::GroupcacheGet);
        timed.end(self.read(request).await)
    }
}
