//! The HTTP services of a member: a JSON gateway for people and programs without gRPC, and
//! groupcache's own HTTP peer protocol.

mod gateway;
mod groupcache;
mod local;
mod parts;

use axum::Router;
use axum::routing::get;
use larder_proto::names::GROUPCACHE_HTTP_PREFIX;

pub(crate) use self::local::serve_local_only;
use crate::cache::Cache;

/// The routes of the HTTP port.
pub fn routes(cache: Cache) -> Router {
    Router::new()
        .route("/api", get(gateway::read))
        .route(&format!("{GROUPCACHE_HTTP_PREFIX}{{*rest}}"), get(groupcache::read))
        .with_state(cache)
}
