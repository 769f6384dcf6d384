//! The only place that opens a connection to a member.

use std::time::Duration;

use larder_proto::v1::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint, Error};

/// A peer that accepts no connection within this time counts as not answering.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// Pings detect a peer that vanished without closing its connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// gRPC's common receive limit. The sending peer cuts a batch of results below it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Leaves room for one more value of the largest size and for framing.
const MAX_MESSAGE_BYTES: usize = 4 * BATCH_BYTES;

/// A client of `address` (`host:port`). It connects on first use and reconnects after a failure.
/// Must be called on a runtime.
///
/// # Errors
/// `address` is not a valid authority.
pub(super) fn open(address: &str) -> Result<PeerClient<Channel>, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let client = PeerClient::new(endpoint.connect_lazy());
    Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES))
}
