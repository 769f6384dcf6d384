//! The error of a read when the origin fails, with and without the key's owner.

use std::time::Duration;

use larder_client::Client;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{GetManyRequest, Outcome};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::rig::{Cluster, eventually, get};
use crate::GROUP;

/// Reason and text of the error of a read whose load always fails.
async fn failure(cluster: &Cluster, member: usize) -> (String, String) {
    let status = get(cluster.client(member), GROUP, "fails").await.expect_err("planned");
    let (_, reason, message) = parts(&status);
    (reason, message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_owner_is_distinguished_from_a_failing_origin() {
    let mut owners = Vec::new();
    for crashed in 0..2 {
        let mut cluster = Cluster::start(2).await;
        for member in 0..2 {
            let (reason, text) = failure(&cluster, member).await;
            assert_eq!(reason, "ORIGIN_FAILED", "from whichever member: {text}");
        }
        cluster.crash(crashed);
        let (reason, text) = failure(&cluster, 1 - crashed).await;
        if reason == "OWNER_UNAVAILABLE" {
            let expected = format!("the key's owner shop-{crashed} does not answer, and this");
            assert!(text.contains(&expected) && text.ends_with("planned"), "{text}");
            owners.push(crashed);
        } else {
            assert_eq!(reason, "ORIGIN_FAILED", "{text}");
        }
        cluster.stop().await;
    }
    assert_eq!(owners.len(), 1, "one of the two owns the key: {owners:?}");
}

/// Code, reason and message of a failed read.
fn parts(status: &Status) -> (Code, String, String) {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_passes_on_the_code_the_reason_and_the_message_of_a_member() {
    let cluster = Cluster::start(3).await;
    let sidecar = cluster.start_sidecar().await;
    let mut client = CacheClient::new(cluster.channel_to(sidecar.addresses().grpc));
    for (group, key, expected) in [
        (GROUP, "fails", "ORIGIN_FAILED"),
        ("nobody", "Tom", "UNKNOWN_GROUP"),
        (GROUP, "", "EMPTY_KEY"),
    ] {
        let at_member = get(cluster.client(0), group, key).await.expect_err("planned");
        let at_sidecar = get(client.clone(), group, key).await.expect_err("planned");
        assert_eq!(parts(&at_sidecar), parts(&at_member));
        assert_eq!(parts(&at_sidecar).1, expected);
    }
    let keys = vec!["Tom".into(), "fails".into()];
    let request = GetManyRequest { group: GROUP.into(), keys, explain: false };
    let response = client.get_many(request).await.expect("a response").into_inner();
    let [found, failed] = &response.results[..] else { panic!("{response:?}") };
    assert_eq!((found.outcome(), failed.outcome()), (Outcome::Found, Outcome::Error));
    assert_eq!(failed.reason, "ORIGIN_FAILED");
    assert!(failed.message.contains("origin of group \"students\" failed"), "{failed:?}");
    assert!(sidecar.drain().await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_origin_cannot_take_is_refused_and_not_retried() {
    let cluster = Cluster::start(3).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("pages", &format!("{origin}/one/{{key}}"), 60_000).await;
    for member in 0..3 {
        let known = || async { get(cluster.client(member), "pages", "a").await.is_ok() };
        eventually(Duration::from_secs(5), known).await;
        let status = get(cluster.client(member), "pages", "..").await.expect_err("a path step");
        let (code, reason, message) = parts(&status);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_KEY"), "{message}");
    }
    let members = (0..3).map(|member| cluster.addresses(member).grpc.to_string());
    let client = Client::builder().members(members).build().expect("valid");
    let error = client.get("pages", "..").await.expect_err("a path step");
    assert_eq!((error.kind(), client.stats().tries), ("invalid_request", 1), "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_of_a_failed_load_names_the_origin() {
    let cluster = Cluster::start(1).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("pages", &format!("{origin}/status/{{key}}"), 60_000).await;
    let failed = || async {
        let status = get(cluster.client(0), "pages", "503").await.expect_err("no value");
        (status.code() == Code::Unavailable).then(|| status.message().to_owned())
    };
    eventually(Duration::from_secs(5), || async { failed().await.is_some() }).await;
    let place = origin.trim_start_matches("http://");
    let expected =
        format!("the origin of group \"pages\" failed: {place} answered with status 503");
    assert_eq!(failed().await, Some(expected));
    cluster.stop().await;
}
