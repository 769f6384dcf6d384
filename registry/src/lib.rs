//! The part of etcd's gRPC API that Larder's members use, in memory: for `larder up` and for
//! tests with faults.
//!
//! It speaks KV, Lease and Watch with etcd's semantics, revisions and error texts, plus as much
//! of Cluster and Maintenance as tells a client whom it talks to. It keeps nothing on disk, knows
//! no other replicas and no users. The state machine is pure (`state`, `store`, `lease`,
//! `watch`); `grpc` is its edge; [`Faults`] breaks it on purpose. The same transcripts run in its
//! tests against this crate and against a real etcd.

mod error;
mod faults;
mod grpc;
mod lease;
mod shared;
mod state;
mod store;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;

pub use crate::faults::Faults;
use crate::shared::Shared;
use crate::state::State;

/// How often leases are looked at (source: etcd `lease.defaultLessorCheckInterval` is 500 ms).
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// Limits and timings. The defaults are etcd's where etcd has one.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Revisions kept for watches that resume; older ones are compacted away.
    pub history_revisions: usize,
    /// The shortest lease, seconds; a shorter one is granted this long.
    pub min_lease_ttl_seconds: u32,
    /// How often an idle watch that asked for it is told the revision.
    pub progress_interval: Duration,
    /// Where ids come from; the same seed gives the same ids.
    pub random: Random,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            history_revisions: 10_000,
            min_lease_ttl_seconds: 2,
            progress_interval: Duration::from_secs(600),
            random: Random::from_entropy(),
        }
    }
}

/// The embedded registry.
#[derive(Debug)]
pub struct Registry;

/// A registry that serves until its tasks are stopped.
#[derive(Debug, Clone)]
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Registry {
    /// Serves on `listener`, which must be non-blocking, until `tasks` stop.
    ///
    /// # Errors
    /// When the runtime does not take the listener.
    pub fn start(
        listener: TcpListener,
        options: RegistryOptions,
        tasks: &Tasks,
    ) -> io::Result<Running> {
        let address = listener.local_addr()?;
        let listener = {
            let _context = tasks.handle().enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let shared = Arc::new(Shared::new(options, Clock::start()));
        tasks.spawn("registry", grpc::serve(listener, Arc::clone(&shared), tasks.clone()));
        tasks.spawn("registry-leases", expire(Arc::clone(&shared), tasks.clone()));
        Ok(Running { address, shared })
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that an etcd client takes.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ways to break it.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }
}

async fn expire(shared: Arc<Shared>, tasks: Tasks) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        tokio::select! {
            () = tasks.stopping().cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !shared.is_stalled() {
            shared.change(State::expire);
        }
    }
}
