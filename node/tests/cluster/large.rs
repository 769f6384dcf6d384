//! Batches whose values exceed one response.

use bytes::Bytes;
use larder_client::Client;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{GetManyRequest, Outcome};

use super::rig::Cluster;
use crate::GROUP;

/// Ten KiB each: together more than twice the receive limit of a stock client.
fn keys() -> Vec<String> {
    (0..1_000).map(|n| format!("large-{n}")).collect()
}

/// Loads the keys, few enough at once for the bulkhead.
async fn warm(client: &Client) {
    for some in keys().chunks(200) {
        for answer in client.get_many(GROUP, some).await {
            answer.expect("a value");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_returns_every_value_of_a_batch_larger_than_a_response() {
    let cluster = Cluster::start(1).await;
    let address = cluster.addresses(0).grpc.to_string();
    let client = Client::builder().members([address]).build().expect("valid");
    warm(&client).await;
    let tries = client.stats().tries;
    for answer in client.get_many(GROUP, keys()).await {
        let answer = answer.expect("a value");
        assert_eq!(answer.value().expect("present").len(), 10 << 10);
    }
    assert_eq!(client.stats().tries - tries, 3, "10 MiB in responses of 4");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_of_a_member_or_a_sidecar_gets_every_value_in_a_few_calls() {
    let cluster = Cluster::start(1).await;
    let address = cluster.addresses(0).grpc.to_string();
    warm(&Client::builder().members([address]).build().expect("valid")).await;
    let sidecar = cluster.start_sidecar().await;
    for address in [cluster.addresses(0).grpc, sidecar.addresses().grpc] {
        let mut client = CacheClient::new(cluster.channel_to(address));
        let mut left: Vec<Bytes> = keys().into_iter().map(Bytes::from).collect();
        let mut calls = 0;
        while !left.is_empty() {
            calls += 1;
            assert!(calls <= 4, "{} keys left after 4 calls", left.len());
            let keys = left.clone();
            let request = GetManyRequest { group: GROUP.into(), keys, explain: calls == 1 };
            // With tonic's receive limit of 4 MiB.
            let results = client.get_many(request).await.expect("a response").into_inner().results;
            left = left
                .into_iter()
                .zip(results)
                .filter_map(|(key, result)| match result.outcome() {
                    Outcome::Found => None,
                    _ => {
                        assert_eq!(result.reason, "RESPONSE_FULL", "{}", result.message);
                        Some(key)
                    }
                })
                .collect();
        }
        assert!(calls > 2, "10 MiB do not fit in {calls} responses");
    }
    assert!(sidecar.drain().await);
    cluster.stop().await;
}
