//! The only place that opens a connection to a member.

use std::time::Duration;

use larder_proto::v1::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint, Error};

/// A connection that is not made in this time counts as a peer that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// Pings find a peer that is gone without a word while calls wait.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A batch's answers are cut at [`super::peer::BATCH_BYTES`] by the peer that sends them; one more
/// value of the largest size may stand on top.
const MAX_MESSAGE_BYTES: usize = 4 * super::peer::BATCH_BYTES;

/// A client of `address` (`host:port`) that connects when it is first used, and again after a
/// broken connection. Needs a runtime around it.
///
/// # Errors
/// An address that cannot be one.
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
