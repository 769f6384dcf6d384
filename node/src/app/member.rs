//! Builds a member: its cache, peers, membership and ports.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_proto::groupcachepb::group_cache_server::GroupCacheServer;
use larder_proto::keys::Keys;
use larder_proto::registry::{Metadata, Registration};
use larder_proto::v1::admin_server::AdminServer;
use larder_proto::v1::cache_server::CacheServer;
use larder_proto::v1::peer_server::PeerServer;
use larder_runtime::tasks::Tasks;
use tonic::service::Routes;

use super::follow;
use super::node::{Addresses, Listeners, ModeParts, NodeCore};
use super::options::Options;
use crate::cache::{Cache, CacheDeps};
use crate::config::{Config, MemberConfig};
use crate::grpc::admin::AdminService;
use crate::grpc::cache::CacheService;
use crate::grpc::groupcache::GroupcacheService;
use crate::grpc::peer::PeerService;
use crate::grpc::{PortService, common_services};
use crate::http;
use crate::membership::{self, Membership, MembershipOptions};
use crate::metrics::{CacheMetrics, EngineCollector, GrpcMetrics, RingMetrics};
use crate::peers::{PeerContext, Peers};
use crate::serve::{self, CLIENTS, ListenerTask, MEMBERS};

/// Largest message from a peer: a batch of the longest keys.
const MAX_PEER_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Time between two sweeps of expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Builds the parts and starts those that run in the background.
pub(super) fn build(
    config: &Config,
    settings: &MemberConfig,
    options: Options,
    core: &NodeCore,
    addresses: Addresses,
    listeners: Listeners,
    tasks: &Tasks,
) -> ModeParts {
    let name: Arc<str> = config.identity.name.as_str().into();
    let ring_metrics = RingMetrics::register(&core.metrics);
    let peers = Peers::new(
        settings.placement.clone(),
        PeerContext {
            member: name.clone(),
            tasks: tasks.clone(),
            random: core.random.clone(),
            metrics: ring_metrics.clone(),
            load_timeout: Duration::from_millis(config.limits.default_timeout_ms),
            health_listener: OnceLock::new(),
        },
    );
    let cache = Cache::new(
        settings,
        CacheDeps {
            member: name,
            limits: config.limits.clone(),
            clock: core.clock,
            random: core.random.clone(),
            tasks: tasks.clone(),
            peers,
            metrics: CacheMetrics::register(&core.metrics),
        },
    );
    let figures = cache.clone();
    EngineCollector::register(&core.metrics, move || figures.figures());
    tasks.spawn_vital("sweep", sweep(cache.clone(), tasks.clone()));
    let membership = join(config, settings, options, core, addresses, &cache, tasks, &ring_metrics);
    let threads = threads(&cache, core, listeners, ring_metrics);
    ModeParts { threads, cache: Some(cache), membership }
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
    tasks: &Tasks,
    metrics: &RingMetrics,
) -> Option<Membership> {
    let registration = registration(config, settings, addresses);
    let groups = follow::Groups::new(config, options.groups);
    let Some(registry) = &settings.registry else {
        let alone = BTreeMap::from([(config.identity.name.clone(), registration)]);
        // Some loaders must be built on a runtime.
        let _runtime = tasks.handle().enter();
        cache.peers().update(1, &alone);
        groups.apply(cache, &BTreeMap::new());
        return None;
    };
    let lease_seconds = i64::try_from(registry.lease_ttl.as_secs()).unwrap_or(i64::MAX);
    metrics.lease_ttl_seconds.set(lease_seconds);
    let gates = follow::Gates::new(&core.ready);
    let membership = membership::start(
        MembershipOptions {
            endpoints: registry.endpoints.clone(),
            tls_directory: registry.tls_directory.clone(),
            keys: Keys::new(&config.cluster.namespace, &config.cluster.name),
            name: config.identity.name.clone(),
            registration,
            lease_ttl: registry.lease_ttl,
        },
        tasks,
        core.random.clone(),
        core.clock,
    );
    let reporter = membership.reporter();
    cache.peers().set_health_listener(Box::new(move |member, answered| {
        if answered { reporter.answered(member) } else { reporter.failed(member) }
    }));
    let follower = follow::Follower {
        views: membership.views.clone(),
        registered: membership.registered.clone(),
        superseded: membership.superseded.clone(),
        connected: membership.connected.clone(),
        identity: config.identity.clone(),
        ready: core.ready.clone(),
        cache: cache.clone(),
        groups,
        metrics: metrics.clone(),
        applied: None,
    };
    tasks.spawn_vital("follow", follower.run(gates, tasks.stopping().clone()));
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
    cache: &Cache,
    core: &NodeCore,
    listeners: Listeners,
    ring_metrics: RingMetrics,
) -> Vec<Vec<ListenerTask>> {
    let metrics = GrpcMetrics::register(&core.metrics);
    let groupcache = GroupcacheService::new(cache.clone(), metrics.clone());
    let others: Routes = common_services(&core.health)
        .add_service(GroupCacheServer::new(groupcache))
        .add_service(AdminServer::new(AdminService::new(cache.clone(), ring_metrics)))
        .prepare();
    let service = CacheServer::new(CacheService::new(cache.clone(), metrics.clone()));
    let client_port = PortService::new(service, "/larder.v1.Cache/", others);
    let service = PeerServer::new(PeerService::new(cache.clone(), metrics))
        .max_decoding_message_size(MAX_PEER_REQUEST_BYTES);
    let others = common_services(&core.health).prepare();
    let peer_port = PortService::new(service, "/larder.v1.Peer/", others);
    let routes = http::routes(cache.clone());

    let Listeners { grpc, peer, http } = listeners;
    grpc.into_iter()
        .zip(peer)
        .zip(http)
        .map(|((grpc, peer), http)| {
            vec![
                serve::grpc(grpc, client_port.clone(), CLIENTS),
                serve::grpc(peer, peer_port.clone(), MEMBERS),
                serve::web(http, routes.clone()),
            ]
        })
        .collect()
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
