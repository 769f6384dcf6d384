//! Builds a member: first everything but its ports, then the ports.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use larder_proto::groupcachepb::group_cache_server::GroupCacheServer;
use larder_proto::keys::Keys;
use larder_proto::registry::{Metadata, Registration};
use larder_proto::v1::admin_server::AdminServer;
use larder_proto::v1::cache_server::CacheServer;
use larder_proto::v1::peer_server::PeerServer;
use larder_runtime::ready::Ready;
use larder_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::background::BackgroundTasks;
use super::follow;
use super::memory;
use super::node::{Addresses, Listeners, ModeParts, NodeCore};
use super::options::Options;
use crate::cache::{Cache, CacheDeps};
use crate::config::{Config, MemberConfig, Mode};
use crate::grpc::admin::AdminService;
use crate::grpc::cache::CacheService;
use crate::grpc::groupcache::GroupcacheService;
use crate::grpc::peer::PeerService;
use crate::grpc::{PortService, common_services};
use crate::handover::{self, Receiver};
use crate::http;
use crate::membership::{self, Membership, MembershipOptions};
use crate::metrics::{CacheMetrics, EngineCollector, GrpcMetrics, RingMetrics, SnapshotMetrics};
use crate::peers::{Grpc, PeerDeps, Peers, Transport};
use crate::serve::{self, CLIENTS, ListenerTask, MEMBERS, PortKind};
use crate::snapshot::{Opening, Snapshots};

/// Largest message from a peer: a batch of the longest keys.
const MAX_PEER_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Time between two sweeps of expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two searches for keys that all members should answer.
const SPREAD_INTERVAL: Duration = Duration::from_secs(1);

/// A member without ports: what answers requests, and what runs in the background. [`App`] adds
/// the ports; a simulation calls the parts directly.
///
/// [`App`]: super::App
pub struct PortlessMember {
    /// Reads and invalidations of applications.
    pub cache: Cache,
    /// Calls of other members.
    pub peer_service: PeerService,
    /// `None` for a member that is its whole cluster.
    pub membership: Option<Membership>,
    /// Open once the member serves.
    pub ready: Ready,
    metrics: GrpcMetrics,
    ring_metrics: RingMetrics,
    snapshots: Option<Arc<Snapshots>>,
}

impl PortlessMember {
    /// Builds the parts and starts those that run in the background, on `tasks`. `addresses` are
    /// registered. `None` if `config` is not that of a member.
    ///
    /// All of it runs on one runtime; [`App`] uses several.
    ///
    /// [`App`]: super::App
    #[must_use]
    pub fn start(
        config: &Config,
        mut options: Options,
        addresses: Addresses,
        tasks: &Tasks,
    ) -> Option<Self> {
        let Mode::Member(settings) = &config.mode else { return None };
        let core = NodeCore::new(&mut options);
        let (upkeep, loads, peers) = (tasks.clone(), tasks.clone(), tasks.clone());
        let tasks = BackgroundTasks { upkeep, loads, peers };
        Some(Self::with_core(config, settings, options, &core, addresses, &tasks))
    }

    pub(super) fn with_core(
        config: &Config,
        settings: &MemberConfig,
        options: Options,
        core: &NodeCore,
        addresses: Addresses,
        tasks: &BackgroundTasks,
    ) -> Self {
        let name: Arc<str> = config.identity.name.as_str().into();
        let ring_metrics = RingMetrics::register(&core.metrics);
        let opening = settings.snapshot.as_ref().and_then(|snapshot| {
            let name = &config.identity.name;
            let metrics = SnapshotMetrics::register(&core.metrics);
            Opening::new(snapshot, &config.cluster, name, core.clock, metrics, &core.failure)
        });
        let peers = Peers::new(
            settings.placement.clone(),
            PeerDeps {
                member: name.clone(),
                uid: config.identity.uid.as_str().into(),
                transport: transport(&options, core),
                tasks: tasks.peers.clone(),
                clock: core.clock,
                random: core.random.clone(),
                metrics: ring_metrics.clone(),
                load_timeout: Duration::from_millis(config.limits.default_timeout_ms),
                capacity_bytes: settings.main_bytes,
                past: opening.as_ref().map(Opening::past).unwrap_or_default(),
            },
        );
        let cache = Cache::new(
            settings,
            CacheDeps {
                member: name,
                limits: config.limits.clone(),
                clock: core.clock,
                random: core.random.clone(),
                tasks: tasks.loads.clone(),
                peers,
                metrics: CacheMetrics::register(&core.metrics),
            },
        );
        let snapshots = opening.map(|opening| {
            opening.attach(&cache, &tasks.upkeep, core.ready.gate("snapshot restored"))
        });
        let figures = cache.clone();
        EngineCollector::register(&core.metrics, move || figures.figures());
        tasks.upkeep.spawn_vital("sweep", sweep(cache.clone(), tasks.upkeep.clone()));
        let stopping = tasks.upkeep.stopping().clone();
        tasks.upkeep.spawn_vital("spread keys", until(stopping, find_spread_keys(cache.clone())));
        let membership = join(
            config,
            settings,
            options,
            core,
            addresses,
            &cache,
            tasks,
            &ring_metrics,
            &snapshots,
        );
        let metrics = GrpcMetrics::register(&core.metrics);
        let peer_service = PeerService::new(cache.clone(), metrics.clone());
        let ready = core.ready.clone();
        Self { cache, peer_service, membership, ready, metrics, ring_metrics, snapshots }
    }

    /// Names and uids of the members in the ring in force; this one included once it is registered.
    #[must_use]
    pub fn ring_members(&self) -> BTreeMap<String, String> {
        let view = self.cache.peers().view();
        let members = view.registrations().iter();
        members.map(|(name, member)| (name.clone(), member.metadata.uid.clone())).collect()
    }

    pub(super) fn with_ports(self, core: &NodeCore, listeners: Listeners) -> ModeParts {
        let threads = threads(&self, core, listeners);
        let Self { cache, membership, snapshots, .. } = self;
        ModeParts { threads, cache: Some(cache), membership, snapshots }
    }
}

/// How the other members are called.
fn transport(options: &Options, core: &NodeCore) -> Arc<dyn Transport> {
    match (&options.transport, &core.tls) {
        (Some(transport), _) => transport.clone(),
        (None, Some(tls)) => Arc::new(tls.transport()),
        (None, None) => Arc::new(Grpc::default()),
    }
}

/// Joins the cluster. Without a registry the member is the whole cluster.
#[expect(clippy::too_many_arguments, reason = "composition needs every part")]
fn join(
    config: &Config,
    settings: &MemberConfig,
    options: Options,
    core: &NodeCore,
    addresses: Addresses,
    cache: &Cache,
    tasks: &BackgroundTasks,
    metrics: &RingMetrics,
    snapshots: &Option<Arc<Snapshots>>,
) -> Option<Membership> {
    let registration = registration(config, settings, addresses);
    let groups = follow::Groups::new(
        config,
        options.groups,
        options.build_origin,
        tasks.loads.handle().clone(),
    );
    let Some(registry) = &settings.registry else {
        let alone = BTreeMap::from([(config.identity.name.clone(), registration)]);
        groups.apply(cache, &BTreeMap::new());
        snapshots.iter().for_each(Snapshots::begin);
        cache.peers().update(1, &alone);
        return None;
    };
    let lease_seconds = i64::try_from(registry.lease_ttl.as_secs()).unwrap_or(i64::MAX);
    metrics.lease_ttl_seconds.set(lease_seconds);
    let gates = follow::Gates::new(&core.ready);
    let receiver = Receiver::new(
        cache.clone(),
        core.ready.gate("entries taken over"),
        tasks.peers.stopping().clone(),
    );
    tasks.peers.spawn_vital("take over", receiver.run());
    let stopping = tasks.peers.stopping().clone();
    let replica_percent = options.replica_percent.unwrap_or(settings.replica_percent);
    let replicas = handover::replicate(cache.clone(), replica_percent, stopping);
    tasks.peers.spawn_vital("replicas", replicas);
    let membership_options = MembershipOptions {
        endpoints: registry.endpoints.clone(),
        tls_directory: registry.tls_directory.clone(),
        keys: Keys::new(&config.cluster.namespace, &config.cluster.name),
        name: config.identity.name.clone(),
        registration,
        lease_ttl: registry.lease_ttl,
    };
    let (random, clock) = (core.random.clone(), core.clock);
    let membership = match options.registry {
        Some(client) => {
            membership::start_with(client, membership_options, &tasks.upkeep, random, clock)
        }
        None => membership::start(membership_options, &tasks.upkeep, random, clock),
    };
    if settings.memory_bytes.is_some() {
        let (file, weight) = (options.memory_limit_file, membership.weight());
        let follow = memory::follow_limit(settings.clone(), file, cache.clone(), weight);
        tasks.upkeep.spawn_vital("memory limit", until(tasks.upkeep.stopping().clone(), follow));
    }
    let reporter = membership.reporter();
    cache.peers().set_health_listener(Box::new(move |member, answered| {
        if answered { reporter.answered(member) } else { reporter.failed(member) }
    }));
    let visibility = membership.visibility();
    let followed = visibility.clone();
    cache.peers().set_may_lack_members(Box::new(move || followed.may_lack_members()));
    let follower = follow::Follower {
        views: membership.views.clone(),
        registered: membership.registered.clone(),
        superseded: membership.superseded.clone(),
        connected: membership.connected.clone(),
        visibility,
        identity: config.identity.clone(),
        ready: core.ready.clone(),
        cache: cache.clone(),
        groups,
        metrics: metrics.clone(),
        snapshots: snapshots.clone(),
        applied: None,
    };
    tasks.upkeep.spawn_vital("follow", follower.run(gates, tasks.upkeep.stopping().clone()));
    Some(membership)
}

fn registration(config: &Config, settings: &MemberConfig, addresses: Addresses) -> Registration {
    let advertised = |address: Option<std::net::SocketAddr>| {
        address.map(|address| config.advertised(address.port())).unwrap_or_default()
    };
    Registration {
        op: 0,
        address: advertised(Some(addresses.grpc)),
        metadata: Metadata {
            uid: config.identity.uid.clone(),
            peer_address: advertised(addresses.peer),
            http_address: advertised(addresses.http),
            weight: settings.weight(),
            zone: config.identity.zone.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    }
}

/// The listeners of every serving thread, one for each port.
fn threads(
    member: &PortlessMember,
    core: &NodeCore,
    listeners: Listeners,
) -> Vec<Vec<ListenerTask>> {
    let PortlessMember { cache, peer_service, metrics, ring_metrics, .. } = member;
    let groupcache = GroupcacheService::new(cache.clone(), metrics.clone());
    let others: Routes = common_services(&core.health)
        .add_service(GroupCacheServer::new(groupcache))
        .add_service(AdminServer::new(AdminService::new(cache.clone(), ring_metrics.clone())))
        .prepare();
    let service = CacheServer::new(CacheService::new(cache.clone(), metrics.clone()));
    let client_port = PortService::new(service, "/larder.v1.Cache/", others);
    let service =
        PeerServer::new(peer_service.clone()).max_decoding_message_size(MAX_PEER_REQUEST_BYTES);
    let others = common_services(&core.health).prepare();
    let peer_port = PortService::new(service, "/larder.v1.Peer/", others);
    let is_local = |listener: &TcpListener| {
        listener.local_addr().is_ok_and(|address| address.ip().is_loopback())
    };
    let routes = http::routes(cache.clone());
    let routes = match listeners.http.first() {
        Some(listener) if core.tls.is_none() && is_local(listener) => {
            http::serve_local_only(routes)
        }
        _ => routes,
    };

    let [client_tls, peer_tls, http_tls] = [PortKind::Grpc, PortKind::Peer, PortKind::Http]
        .map(|port| core.tls.as_ref().map(|tls| tls.acceptor(port)));
    let Listeners { grpc, peer, http } = listeners;
    grpc.into_iter()
        .zip(peer)
        .zip(http)
        .map(|((grpc, peer), http)| {
            vec![
                serve::grpc(grpc, client_tls.clone(), client_port.clone(), CLIENTS),
                serve::grpc(peer, peer_tls.clone(), peer_port.clone(), MEMBERS),
                serve::web(http, http_tls.clone(), routes.clone()),
            ]
        })
        .collect()
}

/// Runs `work` until `stopping` is cancelled.
async fn until(stopping: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = work => {}
    }
}

async fn find_spread_keys(cache: Cache) {
    loop {
        tokio::time::sleep(SPREAD_INTERVAL).await;
        cache.find_spread_keys();
    }
}

async fn sweep(cache: Cache, tasks: Tasks) {
    let stopping = tasks.stopping().clone();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        while cache.sweep() {
            tokio::task::yield_now().await;
        }
    }
}
