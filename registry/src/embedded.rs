//! A running registry: its listener, and the task that expires leases.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::clock::Clock;
use larder_runtime::tasks::Tasks;

use crate::faults::Faults;
use crate::grpc;
use crate::options::RegistryOptions;
use crate::shared::Shared;
use crate::state::State;

/// Interval between checks for expired leases (source: etcd `lease.defaultLessorCheckInterval`,
/// 500 ms).
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// A registry that serves until its tasks are stopped. Clones refer to the same registry.
#[derive(Debug, Clone)]
pub struct EmbeddedRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl EmbeddedRegistry {
    /// Serves on `listener`, which must be non-blocking, until `tasks` stop.
    ///
    /// # Errors
    /// The runtime refuses the listener.
    pub fn start(
        listener: TcpListener,
        options: RegistryOptions,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let listener = {
            let _context = tasks.handle().enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let shared = Arc::new(Shared::new(options, Clock::start()));
        tasks.spawn("registry", grpc::serve(listener, Arc::clone(&shared), tasks.clone()));
        tasks.spawn("registry-leases", expire_leases(Arc::clone(&shared), tasks.clone()));
        Ok(Self { address, shared })
    }

    /// The address on which the registry listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the registry for an etcd client.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Fault injection for this registry.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }
}

pub(crate) async fn expire_leases(shared: Arc<Shared>, tasks: Tasks) {
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
