//! What every mode of a node shares, and what each mode contributes.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::ready::Ready;
use larder_runtime::tasks::Failure;
use prometheus::Registry;
use tonic_health::server::HealthReporter;

use super::options::Options;
use super::tls::NodeTls;
use crate::cache::Cache;
use crate::membership::Membership;
use crate::serve::ListenerTask;
use crate::snapshot::Snapshots;

/// Shared by every mode.
pub(super) struct NodeCore {
    pub(super) metrics: Registry,
    pub(super) ready: Ready,
    pub(super) health: HealthReporter,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) failure: Failure,
    /// `None` for a node without certificates, which speaks plain text.
    pub(super) tls: Option<Arc<NodeTls>>,
}

impl NodeCore {
    /// Takes the randomness of `options`, or the operating system's.
    pub(super) fn new(options: &mut Options) -> Self {
        Self {
            metrics: Registry::new(),
            ready: Ready::new(),
            health: HealthReporter::new(),
            clock: Clock::start(),
            random: options.random.take().unwrap_or_else(Random::from_entropy),
            failure: Failure::default(),
            tls: None,
        }
    }
}

/// Bound listeners of the serving ports, one for each thread.
pub(super) struct Listeners {
    pub(super) grpc: Vec<TcpListener>,
    pub(super) peer: Vec<TcpListener>,
    pub(super) http: Vec<TcpListener>,
}

/// Addresses on which a running node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Cache, Admin, groupcachepb, health, reflection.
    pub grpc: SocketAddr,
    /// The peer protocol; members only.
    pub peer: Option<SocketAddr>,
    /// The gateway and groupcache's HTTP peers; members only.
    pub http: Option<SocketAddr>,
    /// Metrics and probes.
    pub admin: SocketAddr,
}

/// The parts that a mode built.
pub(super) struct ModeParts {
    /// The listeners of each serving thread.
    pub(super) threads: Vec<Vec<ListenerTask>>,
    pub(super) cache: Option<Cache>,
    pub(super) membership: Option<Membership>,
    pub(super) snapshots: Option<Arc<Snapshots>>,
}
