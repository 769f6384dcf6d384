//! `larder.v1.Peer`: the service for other members. Nothing here forwards.

use std::time::Duration;

use larder_proto::v1::peer_server::Peer;
use larder_proto::v1::{
    FetchRequest, FetchResponse, FetchResult, SyncRequest, SyncResponse, TakeOverRequest,
    TakeOverResponse,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::response::{finish_all, limit_response};
use crate::cache::{Answer, Cache, Caller, Error};
use crate::metrics::{GrpcMetrics, Method};
use crate::status::ErrorReply;

/// Most keys in one batch. A peer sends no more than a few hundred.
const MAX_KEYS: usize = 10_000;

/// Serves a member's cache to its peers.
#[derive(Clone)]
pub struct PeerService {
    cache: Cache,
    metrics: GrpcMetrics,
}

impl PeerService {
    /// Serves `cache`.
    #[must_use]
    pub fn new(cache: Cache, metrics: GrpcMetrics) -> Self {
        Self { cache, metrics }
    }

    /// Answers [`Peer::fetch`] without a transport.
    ///
    /// # Errors
    /// Too many keys. An error of one key is a result.
    pub async fn answer(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.cache.peers().heard(&request.from, request.log_end.as_ref());
        let began = Instant::now();
        let keys = request.keys;
        if keys.len() > MAX_KEYS {
            return Err(Error::TooManyKeys { keys: keys.len(), max: MAX_KEYS });
        }
        let lookups =
            self.cache
                .get_many(keys.iter().map(|key| {
                    (&*key.group, &*key.key, Caller::Peer { asks_once: key.asks_once })
                }));
        let load_time_ms = keys.iter().map(|key| key.timeout_ms).max().unwrap_or(0);
        let answers = finish_all(lookups, self.deadline(load_time_ms)).await;
        let mut results: Vec<_> = answers.into_iter().map(result).collect();
        limit_response(&mut results, &result(Err(Error::ResponseFull)));
        let handled_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        results.iter_mut().for_each(|result| result.handled_ms = handled_ms);
        let peers = self.cache.peers();
        let (ring_revision, log_end) = (peers.view().revision(), Some(peers.log_end()));
        Ok(FetchResponse { results, ring_revision, log_end })
    }

    /// Answers [`Peer::sync`] without a transport.
    #[must_use]
    pub fn exchange(&self, request: SyncRequest) -> SyncResponse {
        self.cache.peers().sync(request)
    }

    /// Answers [`Peer::take_over`] without a transport. The work runs with the peers, because it
    /// may take longer than a serving thread can spare.
    ///
    /// # Errors
    /// The member stops.
    pub async fn hand_over(&self, request: TakeOverRequest) -> Result<TakeOverResponse, Error> {
        let cache = self.cache.clone();
        let work = async move { cache.hand_over(request).await };
        let answer = self.cache.peers().tasks().spawn("hand over", work);
        answer.await.map_err(|_| Error::Stopping)
    }

    fn deadline(&self, load_time_ms: u32) -> Instant {
        match load_time_ms {
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
    let mut reply = ErrorReply::from(&error);
    match error {
        // The peer asks for this key alone. Distinguishes a full response from an overload.
        Error::ResponseFull => reply.code = Code::Aborted,
        // The peer answers in this member's place, because the origin did not fail.
        Error::NotJoined | Error::Stopping => reply.code = Code::FailedPrecondition,
        _ => {}
    }
    reply.into()
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<FetchResponse>, Status> {
        let timer = self.metrics.begin(Method::Fetch);
        let answer = self.answer(request.into_inner()).await;
        timer.end(answer.map(Response::new).map_err(|error| ErrorReply::from(error).into()))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        let timer = self.metrics.begin(Method::Sync);
        timer.end(Ok(Response::new(self.exchange(request.into_inner()))))
    }

    async fn take_over(
        &self,
        request: Request<TakeOverRequest>,
    ) -> Result<Response<TakeOverResponse>, Status> {
        let timer = self.metrics.begin(Method::TakeOver);
        let answer = self.hand_over(request.into_inner()).await;
        timer.end(answer.map(Response::new).map_err(|error| ErrorReply::from(error).into()))
    }
}
