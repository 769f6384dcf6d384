//! Composition: one task maintains the registration, one follows the cluster, and both write to
//! one view, as the peers do through [`Reporter`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_backoff::BackoffPolicy;
use larder_proto::keys::Keys;
use larder_proto::registry::Registration;
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::board::{Board, Reporter};
use super::context::{MembershipContext, renewal_interval};
use super::etcd::Etcd;
use super::registration::Registrar;
use super::registry::RegistryClient;
use super::view::{MembershipView, Rules};
use super::visibility::Visibility;
use super::watch::Follower;

/// Limit of a deregistration. After it the lease expires by itself.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a departed member is kept at most while the registry is trusted.
const GRACE: Duration = Duration::from_secs(60);
/// First wait after a failure; it doubles up to a third of a lease.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// How a member takes part in a cluster.
#[derive(Debug, Clone)]
pub struct MembershipOptions {
    /// etcd: `http://host:port` or `https://host:port`, one or more.
    pub endpoints: Vec<String>,
    /// Folder with `ca.crt`, and `tls.crt` with `tls.key` for client authentication. Read again
    /// for each connection.
    pub tls_directory: Option<PathBuf>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The member's name: the name of its pod, so its StatefulSet ordinal.
    pub name: String,
    /// What the other members see. Its uid distinguishes this process's pod from its predecessor's.
    pub registration: Registration,
    /// Time to live of the lease.
    pub lease_ttl: Duration,
}

/// A running membership.
#[derive(Debug)]
pub struct Membership {
    /// The newest view. The last one stays in force while the registry is silent.
    pub views: watch::Receiver<Arc<MembershipView>>,
    /// True while the watch is alive.
    pub connected: watch::Receiver<bool>,
    /// True while this member's key exists under its lease, as far as is known.
    pub registered: watch::Receiver<bool>,
    /// True once a newer pod has registered under this member's name. Never false again: this
    /// member must serve no key.
    pub superseded: watch::Receiver<bool>,
    reporter: Reporter,
    visibility: Visibility,
    weight: watch::Sender<u32>,
    leaving: CancellationToken,
    registrar: JoinHandle<()>,
}

/// Starts against etcd. See [`start_with`].
#[must_use]
pub fn start(
    options: MembershipOptions,
    tasks: &Tasks,
    random: Random,
    clock: Clock,
) -> Membership {
    let etcd = Etcd {
        endpoints: options.endpoints.clone(),
        tls_directory: options.tls_directory.clone(),
        call_timeout: renewal_interval(options.lease_ttl),
    };
    start_with(Arc::new(etcd), options, tasks, random, clock)
}

/// Registers and follows the cluster until `tasks` stop. Returns at once: the registry need not be
/// reachable. To the others, stopping without [`Membership::leave`] looks like a crash.
#[must_use]
pub fn start_with(
    registry: Arc<dyn RegistryClient>,
    options: MembershipOptions,
    tasks: &Tasks,
    random: Random,
    clock: Clock,
) -> Membership {
    let ttl_ms = u64::try_from(options.lease_ttl.as_millis()).unwrap_or(u64::MAX);
    let grace_ms = u64::try_from(GRACE.as_millis()).expect("a minute");
    let rules = Rules {
        own_name: options.name.clone(),
        window_ms: ttl_ms,
        // A member notices the loss of its lease within a third of the TTL and registers again.
        silence_ms: ttl_ms / 2,
        grace_ms: grace_ms.max(ttl_ms),
    };
    let board = Arc::new(Board::new(rules, clock));
    let visibility = Visibility::new(Arc::clone(&board), clock, options.lease_ttl);
    let longest_retry = renewal_interval(options.lease_ttl).max(FIRST_RETRY);
    let context = MembershipContext {
        registry,
        board: Arc::clone(&board),
        visibility: visibility.clone(),
        keys: options.keys,
        lease_ttl: options.lease_ttl,
        retry: BackoffPolicy::new(FIRST_RETRY, 2, longest_retry, 50)
            .expect("first <= max, jitter <= 100"),
        random,
    };
    let (connected_sender, connected) = watch::channel(false);
    let (registered_sender, registered) = watch::channel(false);
    let (superseded_sender, superseded) = watch::channel(false);
    let (weight, weights) = watch::channel(options.registration.metadata.weight);
    let leaving = CancellationToken::new();
    let registrar = Registrar::new(
        context.clone(),
        options.name,
        options.registration,
        weights,
        (registered_sender, superseded_sender),
        leaving.clone(),
    );
    let follower = Follower::new(context, connected_sender);
    let stopping = tasks.stopping().clone();
    tasks.spawn_vital("membership-watch", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = follower.run() => {}
        }
    });
    let stopping = tasks.stopping().clone();
    let registrar = tasks.spawn_vital("membership-registration", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = registrar.run() => {}
        }
    });
    let views = board.subscribe();
    let reporter = Reporter::new(board);
    Membership {
        views,
        connected,
        registered,
        superseded,
        reporter,
        visibility,
        weight,
        leaving,
        registrar,
    }
}

impl Membership {
    /// Takes what the data plane finds out about members.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Whether the view may lack a member.
    #[must_use]
    pub fn visibility(&self) -> Visibility {
        self.visibility.clone()
    }

    /// Takes changes of this member's weight, which are registered at once.
    #[must_use]
    pub fn weight(&self) -> watch::Sender<u32> {
        self.weight.clone()
    }

    /// Deregisters and revokes the lease, so that the others remove this member from their rings at
    /// once. Gives up after two seconds; the lease then expires by itself. A successor's
    /// registration under the same name is left alone.
    ///
    /// # Cancel safety
    /// Deregistration continues until the tasks stop.
    pub async fn leave(self) {
        self.leaving.cancel();
        if tokio::time::timeout(DEREGISTER_TIMEOUT, self.registrar).await.is_err() {
            tracing::warn!(
                "registry did not confirm deregistration in time, the lease will expire"
            );
        }
    }
}
