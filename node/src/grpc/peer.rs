//! `larder.v1.Peer`: what members ask of each other. Nothing here forwards.

use std::time::Duration;

use larder_proto::v1::peer_server::Peer;
use larder_proto::v1::{
    DropRequest, DropResponse, FetchRequest, FetchResponse, FetchResult, Outcome,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::cache::{all, fits};
use super::status;
use crate::cache::{Answer, Cache, Error, Hop, Step};
use crate::metrics::{GrpcMetrics, Method};

/// Keys in one batch; a peer sends no more than a few hundred.
const MAX_KEYS: usize = 10_000;

/// The service.
#[derive(Clone)]
pub struct PeerService {
    cache: Cache,
    metrics: GrpcMetrics,
}

impl PeerService {
    /// Serves `cache` to other members.
    #[must_use]
    pub fn new(cache: Cache, metrics: GrpcMetrics) -> Self {
        Self { cache, metrics }
    }

    async fn answer(&self, request: FetchRequest) -> Result<Response<FetchResponse>, Status> {
        if request.keys.len() > MAX_KEYS {
            let error = Error::TooManyKeys { keys: request.keys.len(), max: MAX_KEYS };
            return Err(status::status(&error));
        }
        let steps: Vec<Step> = request
            .keys
            .iter()
            .map(|asked| self.cache.get(&asked.group, &asked.key, Hop::Peer))
            .collect();
        let patience = request.keys.iter().map(|asked| asked.timeout_ms).max().unwrap_or(0);
        let answers = all(steps, self.deadline(patience)).await;
        let mut bytes = 0;
        let results = answers.into_iter().map(|answer| result(fits(answer, &mut bytes))).collect();
        let ring_revision = self.cache.peers().view().revision();
        Ok(Response::new(FetchResponse { results, ring_revision }))
    }

    fn deadline(&self, patience_ms: u32) -> Instant {
        match patience_ms {
            0 => self.cache.default_deadline(),
            ms => Instant::now() + Duration::from_millis(ms.into()),
        }
    }
}

fn result(answer: Result<Answer, Error>) -> FetchResult {
    let error = match answer {
        Ok(answer) => return answer.into_peer(),
        Err(error) => error,
    };
    let code = match error {
        // "Ask again, alone": the peer tells this from an overload.
        Error::ResponseFull => Code::Aborted,
        // "Do it yourself": not the origin's failure, but ours.
        Error::NotJoined | Error::Stopping => Code::FailedPrecondition,
        _ => status::code(&error),
    };
    FetchResult {
        outcome: Outcome::Error.into(),
        code: code.into(),
        message: error.to_string(),
        reason: status::reason(&error).to_owned(),
        retry_after_ms: status::retry_after_ms(status::retry_after(&error)),
        ..FetchResult::default()
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<FetchResponse>, Status> {
        let timed = self.metrics.begin(Method::Fetch);
        timed.end(self.answer(request.into_inner()).await)
    }

    async fn drop(&self, request: Request<DropRequest>) -> Result<Response<DropResponse>, Status> {
        let timed = self.metrics.begin(Method::Drop);
        let DropRequest { from: _, group, keys } = request.into_inner();
        self.cache.drop_copies(&group, &keys);
        timed.end(Ok(Response::new(DropResponse {})))
    }
}
