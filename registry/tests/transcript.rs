//! An etcd client records the same transcript from the embedded registry as from etcd.
//! `node/tests/services.rs` runs the same steps against a real etcd.

mod transcript {
    pub(crate) mod steps;
}

use std::net::SocketAddr;
use std::time::Duration;

use larder_registry::{EmbeddedRegistry, RegistryOptions};
use larder_runtime::tasks::Tasks;

fn start(options: RegistryOptions) -> (EmbeddedRegistry, Tasks) {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = larder_runtime::net::listen(loopback, false).expect("a free port");
    (EmbeddedRegistry::start(listener, options, &tasks).expect("a tokio runtime"), tasks)
}

#[tokio::test]
async fn the_embedded_registry_answers_as_etcd_does() {
    let (registry, tasks) = start(RegistryOptions::default());
    let transcript = transcript::steps::run(&registry.endpoint()).await;
    transcript::steps::check(&transcript);
    tasks.stop(Duration::from_secs(5)).await.expect("streams end at a stop");
}

#[tokio::test]
async fn clients_observe_injected_faults() {
    let (registry, tasks) = start(RegistryOptions::default());
    let faults = registry.faults();
    let mut client = etcd_client::Client::connect([registry.endpoint()], None).await.expect("up");
    let lease = client.lease_grant(60, None).await.expect("granted").id();
    let options = etcd_client::PutOptions::new().with_lease(lease);
    let put = client.put("k", "v", Some(options)).await.expect("put");
    let cluster = put.header().expect("a header").cluster_id();
    let mut watch = client.watch("k", None).await.expect("a stream");
    assert!(watch.message().await.expect("a live stream").expect("a message").created());

    assert_eq!(faults.revoke_all_leases(), 1);
    let deleted = watch.message().await.expect("a live stream").expect("a message");
    assert_eq!(deleted.events()[0].event_type(), etcd_client::EventType::Delete);

    faults.stall();
    let mut stalled = client.clone();
    let get = stalled.get("k", None);
    assert!(tokio::time::timeout(Duration::from_millis(50), get).await.is_err(), "no answer");
    faults.resume();
    assert_eq!(client.get("k", None).await.expect("answers again").count(), 0);

    faults.drop_streams();
    watch.message().await.expect_err("the stream is gone");

    faults.compact();
    let options = etcd_client::GetOptions::new().with_revision(1);
    client.get("k", Some(options)).await.expect_err("compacted");

    faults.lose_all_data();
    let get = client.get("k", None).await.expect("answers");
    let header = get.header().expect("a header");
    assert_eq!(header.revision(), 1);
    assert_ne!(header.cluster_id(), cluster);
    tasks.stop(Duration::from_secs(5)).await.expect("streams end at a stop");
}
