//! What requests of every kind share.

use std::time::Duration;

use larder_proto::v1::cache_client::CacheClient;
use tonic::Request;

use crate::network::GrpcChannel;

/// A client of `larder.v1.Cache` that accepts responses of at most `max_bytes`.
pub(crate) fn cache(channel: GrpcChannel, max_bytes: usize) -> CacheClient<GrpcChannel> {
    CacheClient::new(channel).max_decoding_message_size(max_bytes)
}

/// A request that carries the caller's remaining time in `grpc-timeout`.
pub(crate) fn with_timeout<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}
