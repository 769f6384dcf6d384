//! `larder bench`: loads a running cluster and measures rate, latency, and where answers came
//! from.
//!
//! Requests go to the endpoint over connections of their own, without the client's retries: a
//! failure counts as one. Keys are read, never written, because origins are read only.

mod keys;
mod load;
mod measure;
mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::future::join_all;
use larder_client::network;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use self::keys::{KeyPattern, Keys};
use self::load::Load;
use self::measure::Measure;
use self::table::millis;
use crate::connect::{Connection, seconds};
use crate::exit::{self, BadConfiguration};
use crate::output::{Output, Report};
use crate::progress;
use crate::signals::run_until_stopped;
use crate::table::terminal_width;
use crate::text::{plural, thousands};

/// Time of a load that names neither a time nor a number of requests.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Name of the CacheGroup
    group: String,

    /// Requests in flight at most; without --rate each answer starts the next request
    #[arg(
        long,
        short,
        default_value = "16",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=4096)
    )]
    concurrency: u32,

    /// Requests a second, however fast answers come
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,

    /// Seconds to run [default: 10, or until --requests are sent]
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Requests to send
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    requests: Option<u64>,

    /// Keys of one request: 1 is a Get, more a GetMany
    #[arg(
        long,
        short,
        default_value = "1",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    batch: u32,

    /// Number of different keys
    #[arg(
        long,
        default_value = "1000",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000)
    )]
    keys: u64,

    /// Key number N is this with N, from 1, in place of {}; {:04} gives it four digits
    #[arg(long, default_value = "key-{}", value_name = "PATTERN")]
    key_pattern: KeyPattern,

    /// Size of every key, reached by leading zeros of its number
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(1..=1_048_576)
    )]
    key_bytes: Option<u32>,

    /// Exponent of Zipf's law by which keys are drawn; 0 draws all alike
    #[arg(long, default_value = "0.99", value_name = "EXPONENT", value_parser = exponent)]
    zipf: f64,

    /// Connections to the endpoint, used in turn
    #[arg(
        long,
        default_value = "4",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=256)
    )]
    connections: u32,

    /// Seed of the drawn keys
    #[arg(long, default_value = "1", value_name = "N")]
    seed: u64,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let mut pattern = self.key_pattern.clone();
        if let Some(bytes) = self.key_bytes {
            let sized = pattern.with_bytes(bytes as usize, self.keys);
            pattern = sized.map_err(BadConfiguration)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no runtime")?;
        let stop = CancellationToken::new();
        let measured = runtime.block_on(run_until_stopped(&stop, self.measure(&pattern, &stop)));
        match measured.context("signals cannot be caught")? {
            Ok(report) => report,
            Err(code) => Ok(Report::printed(code)),
        }
    }

    async fn measure(
        &self,
        pattern: &KeyPattern,
        stop: &CancellationToken,
    ) -> anyhow::Result<Report> {
        self.check_group().await?;
        let channels = self.channels().await?;
        let keys = |worker: u64| {
            let seed = self.seed.wrapping_add(worker);
            Keys::new(pattern.clone(), self.keys, self.zipf, seed).map_err(BadConfiguration)
        };
        let keys = (0..u64::from(self.concurrency)).map(keys).collect::<Result<Vec<_>, _>>()?;
        let load = Arc::new(self.load());
        let mut workers = JoinSet::new();
        for (keys, channel) in keys.into_iter().zip(channels.iter().cycle()) {
            let (load, channel) = (Arc::clone(&load), channel.clone());
            workers.spawn(async move { load.work(channel, keys).await });
        }
        let interrupted = tokio::select! {
            () = async { while workers.join_next().await.is_some() {} } => false,
            () = stop.cancelled() => true,
            never = progress::show(|| progress(&load)) => never,
        };
        let elapsed = load.start.elapsed();
        let measure = load.measure();
        let result = table::Finished { measure: &measure, elapsed, interrupted };
        let mut json = result.json();
        json["group"] = self.group.as_str().into();
        let text = result.text(&self.head(), terminal_width());
        let answered = measure.keys() > measure.failed_keys();
        Ok(Report::new(text, json).code(if answered { exit::OK } else { exit::FAILURE }))
    }

    fn load(&self) -> Load {
        let start = Instant::now();
        let unbounded = self.requests.is_none().then_some(DEFAULT_DURATION);
        Load {
            group: self.group.clone(),
            batch: self.batch as usize,
            rate: self.rate,
            requests: self.requests,
            end: self.duration.or(unbounded).map(|duration| start + duration),
            start,
            timeout: self.connection.timeout,
            begun: AtomicU64::new(0),
            measure: Mutex::new(Measure::new()),
        }
    }

    /// What was run, for the first line.
    fn head(&self) -> String {
        let how = match self.rate {
            Some(rate) => format!("{rate} requests/s, {} in flight at most", self.concurrency),
            None => format!("{} in flight", plural(self.concurrency as usize, "request")),
        };
        format!(
            "{}: {how}, {} each, {} keys by Zipf {}",
            self.group,
            plural(self.batch as usize, "key"),
            thousands(self.keys),
            self.zipf
        )
    }

    /// # Errors
    /// The endpoint does not answer, or does not know the group.
    async fn check_group(&self) -> anyhow::Result<()> {
        let states = self.connection.client()?.status().await?;
        for state in states {
            let known: Vec<String> = state.answer?.groups.into_iter().map(|g| g.name).collect();
            anyhow::ensure!(
                known.contains(&self.group),
                "{} knows no group {:?}; it knows: {}",
                state.address,
                self.group,
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
        }
        Ok(())
    }

    async fn channels(&self) -> anyhow::Result<Vec<Channel>> {
        let address = self.connection.address()?;
        let network = self.connection.network()?;
        let connections = (0..self.connections.min(self.concurrency))
            .map(|_| network::connect(network.clone(), &address, CONNECT_TIMEOUT));
        let channels: Result<Vec<_>, _> = join_all(connections).await.into_iter().collect();
        channels.with_context(|| format!("cannot connect to {address}"))
    }
}

/// The state of the load for the progress bar.
fn progress(load: &Load) -> (u64, String) {
    let measure = load.measure();
    let message = format!(
        "{} requests, p99 {} ms, {} keys failed",
        thousands(measure.requests),
        millis(measure.latency.value_at_percentile(99.0)),
        thousands(measure.failed_keys()),
    );
    (load.permille(measure.requests), message)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1_000_000.0).contains(&rate) { Ok(rate) } else { Err("0.001 to 1000000".into()) }
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=10.0).contains(&exponent) { Ok(exponent) } else { Err("0 to 10".into()) }
}
