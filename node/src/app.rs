//! Composition: builds every part, starts them, and stops them in order.
//!
//! It holds no rule of its own but the order of the drain: readiness false, lease revoked, new work
//! refused, in-flight finished within the grace time, stop. Several may live in one process:
//! nothing here is global, and nothing ends the process.
//!
//! A program that embeds a member gives its loaders as functions:
//! ```
//! use larder_node::app::{App, Options};
//! use larder_node::config::Config;
//! use larder_node::origin::{self, Loaded};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greet = origin::from_fn(|key| async move {
//!     Ok(Loaded::Value([b"hello, ", &key[..]].concat().into()))
//! });
//! let options = Options::default().group("greetings", greet);
//! let member = App::build(Config::alone("demo", 64 << 20), options)?.spawn()?;
//!
//! let answer = member.cache().expect("a member").read("greetings", b"Tom").await?;
//! assert_eq!(answer.present().expect("present"), "hello, Tom");
//! member.drain().await;
//! # Ok(())
//! # }
//! ```

mod follow;
mod member;
mod sidecar;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use larder_engine::PolicyKind;
use larder_proto::contract::{Freshness, OriginLimits};
use larder_runtime::clock::Clock;
use larder_runtime::net;
use larder_runtime::random::Random;
use larder_runtime::ready::Ready;
use larder_runtime::tasks::Tasks;
use prometheus::Registry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::cache::{Cache, Plan, Source};
use crate::config::{Config, Mode};
use crate::membership::Membership;
use crate::metrics;
use crate::origin::Loader;
use crate::serve::{Port, Workers};

/// Part of the grace time, and its most, in which a leaving member still serves: until peers and
/// load balancers have heard.
const FAREWELL_PART: u32 = 8;
const FAREWELL_MOST: Duration = Duration::from_secs(2);
/// What background tasks are given at least, after requests used up the grace time.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What an embedding program adds to the configuration.
#[derive(Default)]
pub struct Options {
    groups: BTreeMap<String, Plan>,
    random: Option<Random>,
}

/// A node whose ports are bound and that does nothing yet.
pub struct App {
    config: Config,
    options: Options,
    ports: Ports,
    core: Core,
}

/// What every mode needs.
struct Core {
    registry: Registry,
    ready: Ready,
    health: HealthReporter,
    clock: Clock,
    random: Random,
}

/// Bound listeners: on the serving ports one for each thread.
struct Ports {
    grpc: Vec<TcpListener>,
    peer: Vec<TcpListener>,
    http: Vec<TcpListener>,
    admin: TcpListener,
}

/// Where a running node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Cache, Admin, groupcachepb, health, reflection.
    pub grpc: SocketAddr,
    /// The peer protocol; of a member only.
    pub peer: Option<SocketAddr>,
    /// The gateway and groupcache's HTTP peers; of a member only.
    pub http: Option<SocketAddr>,
    /// Metrics and probes.
    pub admin: SocketAddr,
}

/// A node at work. Dropped without [`Running::drain`] it stops at once, as in a crash.
pub struct Running {
    addresses: Addresses,
    cache: Option<Cache>,
    membership: Option<Membership>,
    ready: Ready,
    health: HealthReporter,
    metrics: Registry,
    tasks: Tasks,
    workers: Workers,
    background: Background,
    grace: Duration,
}

/// The thread of everything that may take time.
struct Background {
    thread: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

/// What a mode has made of the core.
struct Made {
    ports: Vec<Vec<Port>>,
    cache: Option<Cache>,
    membership: Option<Membership>,
}

impl Options {
    /// Adds a group with defaults: the engine's policy, one minute of life, absent remembered for
    /// five seconds, 32 loads at a time of 5 s each.
    #[must_use]
    pub fn group(self, name: impl Into<String>, loader: impl Loader + 'static) -> Self {
        let freshness = Freshness {
            ttl_ms: 60_000,
            jitter_percent: 10,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 5_000,
        };
        let limits = OriginLimits { concurrency: 32, timeout_ms: 5_000 };
        self.group_with(name, loader, freshness, limits)
    }

    /// Adds a group. A `CacheGroup` of the same name rules over policy, freshness and limits; its
    /// origin yields to the loader given here.
    #[must_use]
    pub fn group_with(
        mut self,
        name: impl Into<String>,
        loader: impl Loader + 'static,
        freshness: Freshness,
        limits: OriginLimits,
    ) -> Self {
        let policy = PolicyKind::default();
        let plan = Plan { policy, freshness, limits, origin: Source::Given(Arc::new(loader)) };
        self.groups.insert(name.into(), plan);
        self
    }

    /// Draws every random number from `random`, so that a test can repeat itself.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }
}

impl App {
    /// Binds the ports.
    ///
    /// # Errors
    /// A port that cannot be had, named.
    pub fn build(config: Config, mut options: Options) -> anyhow::Result<Self> {
        let workers = config.workers();
        let shared = |name: &str, address: SocketAddr| {
            net::listen_shared(address, workers)
                .with_context(|| format!("listen.{name}: cannot listen on {address}"))
        };
        let member = matches!(config.mode, Mode::Member(_));
        let listen = config.listen;
        let ports = Ports {
            grpc: shared("grpc", listen.grpc)?,
            peer: if member { shared("peer", listen.peer)? } else { Vec::new() },
            http: if member { shared("http", listen.http)? } else { Vec::new() },
            admin: net::listen(listen.admin, false)
                .with_context(|| format!("listen.admin: cannot listen on {}", listen.admin))?,
        };
        let core = Core {
            registry: Registry::new(),
            ready: Ready::new(),
            health: HealthReporter::new(),
            clock: Clock::start(),
            random: options.random.take().unwrap_or_else(Random::from_entropy),
        };
        metrics::register_process(&core.registry);
        Ok(Self { config, options, ports, core })
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread, runtime or socket.
    pub fn spawn(self) -> anyhow::Result<Running> {
        let Self { config, options, ports, core } = self;
        let addresses = ports.addresses()?;
        let (background, tasks) = Background::start().context("cannot start a runtime")?;
        let (registry, ready) = (core.registry.clone(), core.ready.clone());
        larder_runtime::admin::serve(ports.admin, registry, ready, &tasks)
            .context("listen.admin")?;
        let listeners = Listeners { grpc: ports.grpc, peer: ports.peer, http: ports.http };
        let made = match &config.mode {
            Mode::Member(settings) => {
                member::make(&config, settings, options, &core, addresses, listeners, &tasks)
            }
            Mode::Sidecar(settings) => sidecar::make(&config, settings, &core, listeners, &tasks)?,
        };
        let workers = Workers::start(made.ports, &core.random).context("cannot start threads")?;
        tasks.spawn("health", follow_readiness(core.ready.clone(), core.health.clone()));
        Ok(Running {
            addresses,
            cache: made.cache,
            membership: made.membership,
            ready: core.ready,
            health: core.health,
            metrics: core.registry,
            tasks,
            workers,
            background,
            grace: config.drain_grace,
        })
    }
}

/// The serving ports' listeners.
struct Listeners {
    grpc: Vec<TcpListener>,
    peer: Vec<TcpListener>,
    http: Vec<TcpListener>,
}

impl Ports {
    fn addresses(&self) -> io::Result<Addresses> {
        let first =
            |listeners: &[TcpListener]| listeners.first().map(TcpListener::local_addr).transpose();
        Ok(Addresses {
            grpc: self.grpc[0].local_addr()?,
            peer: first(&self.peer)?,
            http: first(&self.http)?,
            admin: self.admin.local_addr()?,
        })
    }
}

impl Running {
    /// Where the node listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The member's cache, for reads without a network; a sidecar has none.
    #[must_use]
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Readiness, with what it still waits for.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Every metric of this node.
    #[must_use]
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// Stops in order, within about the configured grace time. True if nothing was cut short.
    ///
    /// # Cancel safety
    /// Dropped early, the node stops at once.
    pub async fn drain(self) -> bool {
        let Self {
            cache, membership, ready, health, tasks, workers, mut background, grace, ..
        } = self;
        ready.close("draining");
        set_health(&health, ServingStatus::NotServing).await;
        let has_peers = cache.as_ref().is_some_and(|c| !c.peers().view().peers().is_empty());
        if let Some(membership) = membership {
            membership.leave().await;
        }
        if has_peers {
            // Peers forward to us until they have heard, and we still answer.
            tokio::time::sleep((grace / FAREWELL_PART).min(FAREWELL_MOST)).await;
        }
        let end = Instant::now() + grace;
        let served = workers.stop(grace).await;
        // What requests needed is done; what is left is quick.
        let rest = end.saturating_duration_since(Instant::now()).max(LAST_GRACE);
        let finished = tasks.stop(rest).await;
        if let Err(unfinished) = finished {
            tracing::warn!(%unfinished, "stopping all the same");
        }
        background.join();
        served && finished.is_ok()
    }
}

impl Background {
    fn start() -> io::Result<(Self, Tasks)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tasks, stop) = (Tasks::new(runtime.handle().clone()), CancellationToken::new());
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("larder-background".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok((Self { thread: Some(thread), stop }, tasks))
    }

    fn join(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("background thread panicked");
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes grpc.health.v1 say what `/readyz` says.
async fn follow_readiness(ready: Ready, health: HealthReporter) {
    /// Probes come every few seconds; a start should not wait for one.
    const INTERVAL: Duration = Duration::from_millis(100);
    set_health(&health, ServingStatus::NotServing).await;
    loop {
        match ready.waiting_for().as_slice() {
            [] => return set_health(&health, ServingStatus::Serving).await,
            ["draining", ..] => return,
            _ => tokio::time::sleep(INTERVAL).await,
        }
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", "larder.v1.Cache"] {
        health.set_service_status(service, status).await;
    }
}
