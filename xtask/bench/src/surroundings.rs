//! What a single member needs to serve: a registry with one group, and that group's HTTP origin.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use larder_proto::contract::{Freshness, GroupContract, HttpOrigin, Origin, OriginLimits};
use larder_proto::keys::Keys;
use larder_registry::{EmbeddedRegistry, RegistryOptions};
use larder_runtime::tasks::Tasks;

/// The group that the load generator reads.
pub(crate) const GROUP: &str = "bench";
/// Longer than any run.
const TTL_MS: u64 = 3_600_000;

/// Prints the registry's URL and serves until it is killed.
///
/// # Errors
/// Loopback has no free port.
pub(crate) fn serve(value_bytes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let value = Bytes::from(vec![b'v'; value_bytes]);
        let origin = tokio::net::TcpListener::bind(any).await?;
        let url_template = format!("http://{}/values/{{key}}", origin.local_addr()?);
        let answer = move || std::future::ready(value.clone());

        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let listener = larder_runtime::net::listen(any, false)?;
        let registry = EmbeddedRegistry::start(listener, RegistryOptions::default(), &tasks)?;
        let mut client = etcd_client::Client::connect([registry.endpoint()], None).await?;
        let contract = serde_json::to_vec(&contract(url_template))?;
        client.put(Keys::new("bench", "bench").group(GROUP), contract, None).await?;
        println!("{}", registry.endpoint());

        let router = Router::new().route("/values/{key}", get(answer));
        axum::serve(origin, router).await?;
        tasks.stop(Duration::from_secs(1)).await?;
        Ok(())
    })
}

fn contract(url_template: String) -> GroupContract {
    GroupContract {
        policy: "Lru".into(),
        origin: Origin::Http(HttpOrigin::new(url_template)),
        freshness: Freshness {
            ttl_ms: TTL_MS,
            jitter_percent: 0,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 0,
            early_refresh_percent: 0,
        },
        origin_limits: OriginLimits::new(32, 5_000),
        guaranteed_bytes: 0,
        generation: 1,
    }
}
