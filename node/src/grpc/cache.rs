//! `larder.v1.Cache`: what applications call.

use bytes::Bytes;
use futures::future::join_all;
use larder_engine::Value;
use larder_proto::v1::cache_server::Cache as Served;
use larder_proto::v1::{
    GetManyRequest, GetManyResponse, GetRequest, GetResponse, InvalidateRequest,
    InvalidateResponse, KeyResult, Outcome,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{deadline, status};
use crate::cache::{Answer, Cache, Error, Hop, Step};
use crate::metrics::{GrpcMetrics, Method};

/// Bytes of values in one response, below gRPC's common receive limit of 4 MiB. At least one value
/// of the largest size fits.
const RESPONSE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// The service.
#[derive(Clone)]
pub struct CacheService {
    cache: Cache,
    metrics: GrpcMetrics,
}

impl CacheService {
    /// Serves `cache`.
    #[must_use]
    pub fn new(cache: Cache, metrics: GrpcMetrics) -> Self {
        Self { cache, metrics }
    }

    async fn read(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (metadata, _, GetRequest { group, key, explain }) = request.into_parts();
        let answer = match self.cache.get(&group, &key, Hop::Client) {
            // The hot path: nothing below waits.
            Step::Done(answer) => answer,
            Step::Wait(wait) => {
                wait.answer(deadline(&metadata, self.cache.default_deadline())).await
            }
        };
        let answer = answer.map_err(|error| status::status(&error))?;
        let explanation = explain.then(|| self.cache.explain(&group, &key, &answer));
        match answer.value {
            Value::Present(value) => {
                Ok(Response::new(GetResponse { value, stale: answer.stale, explanation }))
            }
            Value::Absent => Err(status::absent()),
        }
    }

    async fn read_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let (metadata, _, GetManyRequest { group, keys, explain }) = request.into_parts();
        let max = self.cache.limits().max_batch_keys;
        if keys.len() > max {
            return Err(status::status(&Error::TooManyKeys { keys: keys.len(), max }));
        }
        let deadline = deadline(&metadata, self.cache.default_deadline());
        // All keys are begun before any is waited for, so that they travel in the same batches.
        let steps = keys.iter().map(|key| self.cache.get(&group, key, Hop::Client)).collect();
        let answers = all(steps, deadline).await;
        let (mut results, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for (key, answer) in keys.iter().zip(answers) {
            let answer = fits(answer, &mut bytes);
            // An unknown group is an error of the whole call.
            if let Err(error @ (Error::UnknownGroup { .. } | Error::NotJoined)) = &answer {
                return Err(status::status(error));
            }
            results.push(self.result(&group, key, answer, explain));
        }
        Ok(Response::new(GetManyResponse { results }))
    }

    fn result(
        &self,
        group: &str,
        key: &Bytes,
        answer: Result<Answer, Error>,
        explain: bool,
    ) -> KeyResult {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return KeyResult {
                    outcome: Outcome::Error.into(),
                    code: status::code(&error).into(),
                    message: error.to_string(),
                    reason: status::reason(&error).to_owned(),
                    retry_after_ms: status::retry_after_ms(status::retry_after(&error)),
                    ..KeyResult::default()
                };
            }
        };
        let explanation = explain.then(|| self.cache.explain(group, key, &answer));
        let (outcome, value) = match answer.value {
            Value::Present(value) => (Outcome::Found, value),
            Value::Absent => (Outcome::Absent, Bytes::new()),
        };
        KeyResult {
            outcome: outcome.into(),
            value,
            stale: answer.stale,
            explanation,
            ..KeyResult::default()
        }
    }
}

#[tonic::async_trait]
impl Served for CacheService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let timed = self.metrics.begin(Method::Get);
        timed.end(self.read(request).await)
    }

    async fn get_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let timed = self.metrics.begin(Method::GetMany);
        timed.end(self.read_many(request).await)
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let timed = self.metrics.begin(Method::Invalidate);
        let InvalidateRequest { group, keys } = request.into_inner();
        let done = self.cache.invalidate(&group, keys).await;
        timed.end(match done {
            Ok(done) => Ok(Response::new(InvalidateResponse {
                members_reached: done.reached,
                members_total: done.total,
            })),
            Err(error) => Err(status::status(&error)),
        })
    }
}

/// The outcomes of steps that were all begun, in their order.
pub(super) async fn all(steps: Vec<Step>, deadline: Instant) -> Vec<Result<Answer, Error>> {
    let mut answers = Vec::with_capacity(steps.len());
    let mut waits = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        answers.push(match step {
            Step::Done(answer) => answer,
            Step::Wait(wait) => {
                waits.push(async move { (index, wait.answer(deadline).await) });
                Err(Error::Stopping) // Replaced below.
            }
        });
    }
    for (index, answer) in join_all(waits).await {
        answers[index] = answer;
    }
    answers
}

/// Cuts a response before it grows beyond what stock clients receive.
pub(super) fn fits(answer: Result<Answer, Error>, bytes: &mut usize) -> Result<Answer, Error> {
    let answer = answer?;
    *bytes += answer.value.len();
    if *bytes > RESPONSE_BYTES {
        *bytes -= answer.value.len();
        return Err(Error::ResponseFull);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use larder_proto::v1::Source;

    use super::*;

    #[test]
    fn a_response_that_is_full_still_takes_what_fits() {
        let answer = |bytes| {
            let value = Value::Present(Bytes::from(vec![0; bytes]));
            Ok(Answer {
                value,
                source: Source::Local,
                stale: false,
                age_ms: 0,
                remaining_ms: 1,
                version: 1,
                not_owner: false,
            })
        };
        let mut bytes = 0;
        assert!(fits(answer(3 << 20), &mut bytes).is_ok());
        assert!(matches!(fits(answer(3 << 20), &mut bytes), Err(Error::ResponseFull)));
        assert!(fits(answer(1 << 19), &mut bytes).is_ok());
    }
}
