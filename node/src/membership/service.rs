//! Joins the parts: one task keeps our registration, one follows the cluster, both and the peers
//! write to one View.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_backoff::{Backoff, BackoffPolicy};
use larder_proto::keys::Keys;
use larder_proto::registry::Registration;
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::registration::Registrar;
use super::watch::Follower;
use super::{Etcd, Event, Registry, Rules, View, apply};

/// Longest wait for a farewell; the lease ends by itself after it.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a departed member stays at most while the registry is trusted.
const GRACE: Duration = Duration::from_secs(60);
/// First wait after a failure; it doubles up to a third of a lease.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// How a member takes part.
#[derive(Debug, Clone)]
pub struct MembershipOptions {
    /// etcd: `http://host:port` or `https://host:port`, one or more.
    pub endpoints: Vec<String>,
    /// Folder with `ca.crt`, and `tls.crt` with `tls.key` for client authentication; read again
    /// for each connection.
    pub tls_directory: Option<PathBuf>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The member's name: its pod's, so its StatefulSet ordinal.
    pub name: String,
    /// What to tell the others; its uid tells this process's pod from its predecessor's.
    pub registration: Registration,
    /// Life of the lease.
    pub lease_ttl: Duration,
}

/// A running membership.
#[derive(Debug)]
pub struct Membership {
    /// What is believed; the newest View. The last one stays for ever.
    pub views: watch::Receiver<Arc<View>>,
    /// True while the watch lives.
    pub connected: watch::Receiver<bool>,
    /// True while our own key stands under our lease, as far as is known.
    pub registered: watch::Receiver<bool>,
    reporter: Reporter,
    farewell: CancellationToken,
    registrar: JoinHandle<()>,
}

/// Takes what peers find out about members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    board: Arc<Board>,
}

/// The one View with its rules.
#[derive(Debug)]
pub(super) struct Board {
    views: watch::Sender<Arc<View>>,
    rules: Rules,
    clock: Clock,
}

/// What both tasks need.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) board: Arc<Board>,
    pub(super) keys: Keys,
    pub(super) lease_ttl: Duration,
    pub(super) policy: BackoffPolicy,
    pub(super) random: Random,
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
        call_timeout: beat(options.lease_ttl),
    };
    start_with(Arc::new(etcd), options, tasks, random, clock)
}

/// Registers and follows until `tasks` stop. Returns at once; nothing needs the registry to be
/// there. Stopping without [`Membership::leave`] looks like a crash to the others.
#[must_use]
pub fn start_with(
    registry: Arc<dyn Registry>,
    options: MembershipOptions,
    tasks: &Tasks,
    random: Random,
    clock: Clock,
) -> Membership {
    let ttl_ms = u64::try_from(options.lease_ttl.as_millis()).unwrap_or(u64::MAX);
    let grace_ms = u64::try_from(GRACE.as_millis()).expect("a minute");
    let rules = Rules {
        own: options.name.clone(),
        window_ms: ttl_ms,
        // A lost lease is noticed within a third of its life and taken again at once.
        unheard_ms: ttl_ms / 2,
        grace_ms: grace_ms.max(ttl_ms),
    };
    let board = Arc::new(Board { views: watch::Sender::default(), rules, clock });
    let retry = beat(options.lease_ttl).max(FIRST_RETRY);
    let context = Context {
        registry,
        board: Arc::clone(&board),
        keys: options.keys,
        lease_ttl: options.lease_ttl,
        policy: BackoffPolicy::new(FIRST_RETRY, 2, retry, 50).expect("first <= max, jitter <= 100"),
        random,
    };
    let (connected_sender, connected) = watch::channel(false);
    let (registered_sender, registered) = watch::channel(false);
    let farewell = CancellationToken::new();
    let registrar = Registrar::new(
        context.clone(),
        options.name,
        options.registration,
        registered_sender,
        farewell.clone(),
    );
    let follower = Follower::new(context, connected_sender);
    let stopping = tasks.stopping().clone();
    tasks.spawn("membership-watch", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = follower.run() => {}
        }
    });
    let stopping = tasks.stopping().clone();
    let registrar = tasks.spawn("membership-registration", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = registrar.run() => {}
        }
    });
    let views = board.views.subscribe();
    let reporter = Reporter { board };
    Membership { views, connected, registered, reporter, farewell, registrar }
}

/// How often a lease is renewed, and the limit of one call.
pub(super) fn beat(lease_ttl: Duration) -> Duration {
    lease_ttl / 3
}

impl Membership {
    /// For the data plane's findings.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Says farewell and revokes the lease, so that the others take us out of their rings at
    /// once. Gives up after two seconds; the lease then ends by itself. A successor's
    /// registration under our name stays untouched.
    ///
    /// # Cancel safety
    /// The farewell goes on until the tasks stop.
    pub async fn leave(self) {
        self.farewell.cancel();
        if tokio::time::timeout(FAREWELL, self.registrar).await.is_err() {
            tracing::warn!("registry did not take the farewell in time, the lease will run out");
        }
    }
}

impl Reporter {
    /// The member answered. Tell it once a change, or for each probe of a departed member.
    pub fn answered(&self, member: &str) {
        self.board.apply(Event::PeerAnswered(member.to_owned()));
    }

    /// The member did not answer: it is gone as soon as its lease is gone too.
    pub fn failed(&self, member: &str) {
        self.board.apply(Event::PeerFailed(member.to_owned()));
    }
}

impl Board {
    /// Applies an event and tells readers when something changed for them.
    pub(super) fn apply(&self, event: Event) {
        let now_ms = self.clock.now_ms();
        self.views.send_if_modified(|view| {
            let next = apply(view, event, &self.rules, now_ms);
            let differs = next.differs(view);
            if differs && next.distrusted != view.distrusted {
                tracing::warn!(
                    distrusted = next.distrusted,
                    members = next.members.len(),
                    departed = next.departed.len(),
                    "shrink guard changed: while it distrusts the registry, the ring is kept"
                );
            }
            *view = Arc::new(next);
            differs
        });
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }
}

impl Context {
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.policy)
    }
}
