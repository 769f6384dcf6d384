//! The flags by which a verb finds the members, and the client made from them.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use larder_client::{Client, Retry};
use tokio::runtime::Runtime;

/// Where `larder up` listens first.
pub(crate) const DEFAULT_ENDPOINT: &str = "127.0.0.1:7600";

/// Limit of one member's answer, where several are asked.
const MEMBER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Endpoint {
    /// Member or Service to ask, host:port; any member answers for every key
    #[arg(
        long,
        short,
        global = true,
        env = "LARDER_ENDPOINT",
        hide_env_values = true,
        default_value = DEFAULT_ENDPOINT,
        value_name = "HOST:PORT"
    )]
    pub(crate) endpoint: String,

    /// Seconds that the whole command may take, all tries together
    #[arg(
        long,
        global = true,
        default_value = "10",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    pub(crate) timeout: Duration,

    /// Tries after the first, when no member answers: 1, 2, 4 s apart
    #[arg(long, global = true, default_value = "1", value_name = "N")]
    pub(crate) retries: u32,
}

impl Endpoint {
    /// A client that asks exactly this endpoint.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(self.builder().follow_ring(false).build()?)
    }

    /// A client that learns the other members from this endpoint.
    pub(crate) fn cluster(&self) -> anyhow::Result<Client> {
        Ok(self.builder().try_timeout(self.timeout.min(MEMBER)).build()?)
    }

    fn builder(&self) -> larder_client::Builder {
        Client::builder()
            .members([self.endpoint.clone()])
            .timeout(self.timeout)
            .try_timeout(self.timeout)
            .retry(Retry { retries: self.retries, ..Retry::default() })
    }
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("0.001 to 86400 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}
