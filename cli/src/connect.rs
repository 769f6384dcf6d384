//! The flags by which a verb finds the members, and the client made from them.

mod tls;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use larder_client::network::Network;
use larder_client::{BuildError, Client, Endpoint, EndpointError, Retry};
use tokio::runtime::Runtime;

use self::tls::TlsFlags;

/// Where `larder up` listens first.
pub(crate) const DEFAULT_ENDPOINT: &str = "127.0.0.1:7600";

/// Limit of one member's answer, where several are asked.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Member or Service to ask; the port defaults to 7600; any member answers for every key;
    /// https:// or a TLS flag connects over TLS
    #[arg(
        long,
        short,
        env = "LARDER_ENDPOINT",
        hide_env_values = true,
        default_value = DEFAULT_ENDPOINT,
        value_name = "HOST[:PORT]"
    )]
    endpoint: String,

    /// Seconds that the whole command may take, all tries together
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Further tries when no member answers, after 1, 2 and 4 s
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) retries: u32,

    #[command(flatten)]
    tls: TlsFlags,
}

impl Connection {
    /// The endpoint as `host:port`.
    pub(crate) fn address(&self) -> anyhow::Result<String> {
        Ok(parsed(&self.endpoint)?.address())
    }

    /// Opens connections to members as the clients do.
    pub(crate) fn network(&self) -> anyhow::Result<Arc<dyn Network>> {
        Ok(self.builder(&self.endpoint)?.into_network()?)
    }

    /// A client that asks exactly this endpoint.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.builder(&self.endpoint)?.follow_ring(false).build()?)
    }

    /// A client that learns the other members from this endpoint.
    pub(crate) fn cluster(&self) -> anyhow::Result<Client> {
        self.cluster_at(&self.endpoint)
    }

    /// [`Connection::cluster`] of another endpoint.
    pub(crate) fn cluster_at(&self, endpoint: &str) -> anyhow::Result<Client> {
        Ok(self.builder(endpoint)?.try_timeout(self.timeout.min(MEMBER_TIMEOUT)).build()?)
    }

    fn builder(&self, endpoint: &str) -> anyhow::Result<larder_client::Builder> {
        let builder = Client::builder()
            .members([endpoint])
            .timeout(self.timeout)
            .try_timeout(self.timeout)
            .retry(Retry { retries: self.retries, ..Retry::default() });
        Ok(match self.tls.for_endpoint(&parsed(endpoint)?)? {
            Some(tls) => builder.tls(tls),
            None => builder,
        })
    }
}

fn parsed(endpoint: &str) -> anyhow::Result<Endpoint> {
    let read: Result<Endpoint, EndpointError> = endpoint.parse();
    Ok(read.map_err(BuildError::from)?)
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

/// Reads a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("0.001 to 86400 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}
