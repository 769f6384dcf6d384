//! The HTTP door: a JSON gateway for people and programs without gRPC, and groupcache's own HTTP
//! peer protocol.

pub mod gateway;
pub mod groupcache;

use axum::Router;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::get;
use larder_proto::names::GROUPCACHE_HTTP_PREFIX;
use percent_encoding::percent_decode_str;

use crate::cache::{Answer, Cache, Error, Hop, Step};
use crate::grpc::status;

/// The routes of the door.
pub fn routes(cache: Cache) -> Router {
    Router::new()
        .route("/api", get(gateway::read))
        .route(&format!("{GROUPCACHE_HTTP_PREFIX}{{*rest}}"), get(groupcache::read))
        .with_state(cache)
}

/// Reads one key within the default limit.
async fn read(cache: &Cache, group: &str, key: &[u8]) -> Result<Answer, Error> {
    match cache.get(group, key, Hop::Client) {
        Step::Done(answer) => answer,
        Step::Wait(wait) => wait.answer(cache.default_deadline()).await,
    }
}

/// How an error is told: its status and, with 429 and 503, when to come back.
fn refused(error: &Error) -> (StatusCode, HeaderMap) {
    let retry = status::http_retry_after(error);
    let headers = retry.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)));
    (status::http(status::code(error)), headers.into_iter().collect())
}

/// The bytes that a percent-escaped part of a URL stands for; keys need not be text.
fn unescape(part: &str) -> Vec<u8> {
    percent_decode_str(part).collect()
}
