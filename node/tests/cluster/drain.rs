//! A drain while clients hold streams that never end by themselves.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use super::rig::Cluster;

/// Well below the grace of 4 seconds.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_watch_ends_at_a_drain_and_does_not_hold_it_up() {
    let mut cluster = Cluster::start(1).await;
    let mut health = HealthClient::new(cluster.channel(0));
    let request = HealthCheckRequest { service: "larder.v1.Cache".into() };
    let mut watch = health.watch(request).await.expect("a stream").into_inner();
    let serving = watch.message().await.expect("a status").expect("the first");
    assert_eq!(serving.status, 1);

    let began = Instant::now();
    let drained = tokio::spawn(cluster.take(0).drain());
    let not_serving = watch.message().await.expect("a status").expect("the second");
    assert_eq!(not_serving.status, 2);
    let ended = watch.message().await.expect_err("the member stops");
    assert_eq!(ended.code(), Code::Unavailable, "clients watch another member");
    assert!(drained.await.expect("no panic"), "nothing was cut short");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reflection_stream_does_not_hold_up_a_drain() {
    let mut cluster = Cluster::start(1).await;
    let mut reflection = ServerReflectionClient::new(cluster.channel(0));
    let silent = futures::stream::pending::<ServerReflectionRequest>();
    let stream = reflection.server_reflection_info(silent).await.expect("a stream");
    let began = Instant::now();
    assert!(cluster.take(0).drain().await, "nothing was cut short");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let ended = stream.into_inner().message().await.expect_err("the member stopped");
    assert_eq!(ended.code(), Code::Unavailable);
    cluster.stop().await;
}
