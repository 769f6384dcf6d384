//! A sidecar: a client with a near cache behind a member's door.

use std::time::Duration;

use anyhow::Context as _;
use larder_client::Client;
use larder_proto::config::SidecarMode;
use larder_proto::groupcachepb::group_cache_server::GroupCacheServer;
use larder_proto::v1::cache_server::CacheServer;
use larder_runtime::ready::Gate;
use larder_runtime::tasks::Tasks;

use super::{Core, Listeners, Made};
use crate::config::Config;
use crate::grpc::{Door, common};
use crate::metrics::GrpcMetrics;
use crate::serve::{self, CLIENTS};
use crate::sidecar::Sidecar;

/// Between two tries to reach the members at the start.
const KNOCK_INTERVAL: Duration = Duration::from_millis(500);

/// Makes the client and the doors.
///
/// # Errors
/// Members that are no addresses.
pub(super) fn make(
    config: &Config,
    settings: &SidecarMode,
    core: &Core,
    listeners: Listeners,
    tasks: &Tasks,
) -> anyhow::Result<Made> {
    let timeout = Duration::from_millis(config.limits.default_timeout_ms);
    let mut builder = Client::builder().members(settings.members.clone()).timeout(timeout);
    if settings.near_cache_bytes > 0 && settings.near_cache_ttl_ms > 0 {
        let ttl = Duration::from_millis(settings.near_cache_ttl_ms);
        builder = builder.near_cache(settings.near_cache_bytes, ttl);
    }
    let client = {
        let _runtime = tasks.handle().enter();
        builder.build().context("mode.sidecar")?
    };
    let gate = core.ready.gate("members reached");
    tasks.spawn("knock", knock(client.clone(), gate, tasks.clone()));

    let metrics = GrpcMetrics::register(&core.registry);
    let sidecar = Sidecar::new(client, metrics, timeout, config.limits.max_batch_keys);
    let rest = common(&core.health).add_service(GroupCacheServer::new(sidecar.clone())).prepare();
    let door = Door::new(CacheServer::new(sidecar), "/larder.v1.Cache/", rest);
    let ports = listeners
        .grpc
        .into_iter()
        .map(|listener| vec![serve::grpc(listener, door.clone(), CLIENTS)])
        .collect();
    Ok(Made { ports, cache: None, membership: None })
}

/// Ready once any member answered; never asks again.
async fn knock(client: Client, gate: Gate, tasks: Tasks) {
    let client = client.with_timeout(KNOCK_INTERVAL * 4);
    loop {
        tokio::select! {
            () = tasks.stopping().cancelled() => return,
            answered = client.ring() => if answered.is_ok() { return gate.open() },
        }
        tokio::time::sleep(KNOCK_INTERVAL).await;
    }
}
