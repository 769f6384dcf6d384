//! Binds the ports of a node and starts its threads.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use larder_runtime::net;
use larder_runtime::ready::Ready;
use larder_runtime::tasks::Failure;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::background::Background;
use super::member::PortlessMember;
use super::node::{Addresses, Listeners, NodeCore};
use super::options::Options;
use super::running::Running;
use super::sidecar;
use super::tls::{NodeTls, POLL_INTERVAL};
use crate::config::{Config, Mode};
use crate::metrics;
use crate::serve::Workers;

/// A node whose ports are bound and whose threads have not started.
pub struct App {
    config: Config,
    options: Options,
    listeners: Listeners,
    admin: TcpListener,
    core: NodeCore,
}

impl App {
    /// Binds the ports and reads the certificates.
    ///
    /// # Errors
    /// A port that cannot be bound, or certificates that cannot be used; the message names them.
    pub fn build(config: Config, mut options: Options) -> anyhow::Result<Self> {
        let workers = config.workers();
        let shared = |name: &str, address: SocketAddr| {
            net::listen_shared(address, workers)
                .with_context(|| format!("listen.{name}: cannot listen on {address}"))
        };
        let is_member = matches!(config.mode, Mode::Member(_));
        let listen = config.listen;
        let listeners = Listeners {
            grpc: shared("grpc", listen.grpc)?,
            peer: if is_member { shared("peer", listen.peer)? } else { Vec::new() },
            http: if is_member { shared("http", listen.http)? } else { Vec::new() },
        };
        let admin = net::listen(listen.admin, false)
            .with_context(|| format!("listen.admin: cannot listen on {}", listen.admin))?;
        let mut core = NodeCore::new(&mut options);
        core.tls = NodeTls::open(&config, &core.metrics).context("tls")?.map(Arc::new);
        metrics::register_process(&core.metrics);
        Ok(Self { config, options, listeners, admin, core })
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// If the system cannot create a thread, a runtime or a socket.
    pub fn spawn(self) -> anyhow::Result<Running> {
        let Self { config, options, listeners, admin, core } = self;
        let addresses = addresses(&listeners, &admin)?;
        let (background, tasks) =
            Background::start(config.workers(), &core.failure).context("cannot start a runtime")?;
        if let Some(tls) = &core.tls {
            let stopping = tasks.upkeep.stopping().clone();
            let interval = options.certificate_interval.unwrap_or(POLL_INTERVAL);
            tasks.upkeep.spawn_vital("certificates", tls.clone().follow(interval, stopping));
        }
        let (registry, ready) = (core.metrics.clone(), core.ready.clone());
        larder_runtime::admin::serve(admin, registry, ready, &tasks.upkeep)
            .context("listen.admin")?;
        let parts = match &config.mode {
            Mode::Member(settings) => {
                PortlessMember::with_core(&config, settings, options, &core, addresses, &tasks)
                    .with_ports(&core, listeners)
            }
            Mode::Sidecar(settings) => {
                sidecar::build(&config, settings, &core, listeners, &tasks.peers)?
            }
        };
        let workers = Workers::start(parts.threads, &core.random, &core.failure)
            .context("cannot start threads")?;
        tasks.upkeep.spawn_vital("health", follow_readiness(core.ready.clone(), core.health));
        tasks.upkeep.spawn("failure", close_after(core.failure.clone(), core.ready.clone()));
        Ok(Running {
            addresses,
            cache: parts.cache,
            membership: parts.membership,
            snapshots: parts.snapshots,
            ready: core.ready,
            metrics: core.metrics,
            failure: core.failure,
            tasks,
            workers,
            background,
            grace: config.drain_grace,
        })
    }
}

fn addresses(listeners: &Listeners, admin: &TcpListener) -> io::Result<Addresses> {
    let first =
        |listeners: &[TcpListener]| listeners.first().map(TcpListener::local_addr).transpose();
    Ok(Addresses {
        grpc: listeners.grpc[0].local_addr()?,
        peer: first(&listeners.peer)?,
        http: first(&listeners.http)?,
        admin: admin.local_addr()?,
    })
}

/// Turns readiness off after a failure, or when the node drains and closes it as well.
async fn close_after(failure: Failure, ready: Ready) {
    tokio::select! {
        () = failure.wait() => ready.close("a vital task panicked"),
        () = ready.closed() => {}
    }
}

/// Keeps grpc.health.v1 equal to `/readyz`.
async fn follow_readiness(ready: Ready, health: HealthReporter) {
    set_health(&health, ServingStatus::NotServing).await;
    if ready.opened().await {
        set_health(&health, ServingStatus::Serving).await;
        ready.closed().await;
        set_health(&health, ServingStatus::NotServing).await;
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in ["", "larder.v1.Cache"] {
        health.set_service_status(service, status).await;
    }
}
