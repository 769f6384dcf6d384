//! Builds a sidecar: a client with a near cache behind the gRPC port of a member.

use std::time::Duration;

use anyhow::Context as _;
use larder_client::Client;
use larder_proto::config::SidecarMode;
use larder_proto::groupcachepb::group_cache_server::GroupCacheServer;
use larder_proto::v1::cache_server::CacheServer;
use larder_runtime::ready::Gate;
use larder_runtime::tasks::Tasks;

use super::node::{Listeners, ModeParts, NodeCore};
use crate::config::Config;
use crate::grpc::cache::CacheService;
use crate::grpc::groupcache::GroupcacheService;
use crate::grpc::{PortService, common_services};
use crate::metrics::GrpcMetrics;
use crate::serve::{self, CLIENTS};
use crate::sidecar::Sidecar;

/// Time between two tries to reach the members at the start.
const CONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// Builds the client and the port.
///
/// # Errors
/// An invalid address of a member, or one whose scheme contradicts the certificates.
pub(super) fn build(
    config: &Config,
    settings: &SidecarMode,
    core: &NodeCore,
    listeners: Listeners,
    tasks: &Tasks,
) -> anyhow::Result<ModeParts> {
    let timeout = Duration::from_millis(config.limits.default_timeout_ms);
    let mut builder = Client::builder().members(settings.members.clone()).timeout(timeout);
    if settings.near_cache_bytes > 0 && settings.near_cache_ttl_ms > 0 {
        let ttl = Duration::from_millis(settings.near_cache_ttl_ms);
        builder = builder.near_cache(settings.near_cache_bytes, ttl);
    }
    if let Some(zone) = &config.identity.zone {
        builder = builder.zone(zone);
    }
    if let Some(tls) = &core.tls {
        builder = builder.tls(tls.client());
    }
    let client = {
        let _runtime = tasks.handle().enter();
        builder.build().context("mode.sidecar")?
    };
    let gate = core.ready.gate("members reached");
    tasks.spawn_vital("connect", open_once_reached(client.clone(), gate, tasks.clone()));

    let metrics = GrpcMetrics::register(&core.metrics);
    let sidecar = Sidecar::new(client, timeout, config.limits.max_batch_keys);
    let groupcache = GroupcacheService::new(sidecar.clone(), metrics.clone());
    let others =
        common_services(&core.health).add_service(GroupCacheServer::new(groupcache)).prepare();
    let cache = CacheServer::new(CacheService::new(sidecar, metrics));
    let port = PortService::new(cache, "/larder.v1.Cache/", others);
    let threads = listeners
        .grpc
        .into_iter()
        .map(|listener| vec![serve::grpc(listener, None, port.clone(), CLIENTS)])
        .collect();
    Ok(ModeParts { threads, cache: None, membership: None, snapshots: None })
}

/// Opens the gate once any member has answered.
async fn open_once_reached(client: Client, gate: Gate, tasks: Tasks) {
    let client = client.with_timeout(CONNECT_INTERVAL * 4);
    loop {
        tokio::select! {
            () = tasks.stopping().cancelled() => return,
            answered = client.ring() => if answered.is_ok() { return gate.open() },
        }
        tokio::time::sleep(CONNECT_INTERVAL).await;
    }
}
