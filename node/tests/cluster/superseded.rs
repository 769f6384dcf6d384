//! A member whose name a newer pod has taken, as on a node that is cut off from Kubernetes.

use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::InvalidateRequest;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::rig::{Cluster, get, http_get};
use crate::GROUP;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_member_serves_no_key_and_is_not_ready() {
    let mut cluster = Cluster::start(2).await;
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    for key in &keys {
        get(cluster.client(1), GROUP, key).await.expect("a value");
    }
    cluster.add_pod("shop-1", "a newer pod", 8 << 20);
    let refused = || async {
        let answer = get(cluster.client(1), GROUP, &keys[0]).await;
        answer.is_err_and(|status| {
            let reason = status.get_details_error_info().map(|info| info.reason);
            status.code() == Code::Unavailable && reason.as_deref() == Some("MEMBER_NOT_JOINED")
        })
    };
    cluster.eventually(PATIENCE, refused).await;
    let unready = || async {
        let (status, text) = http_get(cluster.addresses(1).admin, "/readyz").await;
        status == 503 && String::from_utf8_lossy(&text).contains("superseded by a newer pod")
    };
    cluster.eventually(PATIENCE, unready).await;
    let (status, _) = http_get(cluster.addresses(1).admin, "/healthz").await;
    assert_eq!(status, 200, "a restart would not help");
    let health = || async {
        let mut health = HealthClient::new(cluster.channel(1));
        let answer = health.check(HealthCheckRequest { service: String::new() }).await;
        answer.is_ok_and(|answer| answer.into_inner().status == 2)
    };
    cluster.eventually(PATIENCE, health).await;

    // The others use the newer pod.
    let whole = || async {
        cluster.ring_of(0).await == ["shop-0", "shop-1"] && cluster.ring_of(2).await.len() == 2
    };
    cluster.eventually(PATIENCE, whole).await;
    for key in &keys {
        for member in [0, 2] {
            get(cluster.client(member), GROUP, key).await.expect("a value");
        }
        get(cluster.client(1), GROUP, key).await.expect_err("no value, not even a copy");
    }
    let request = |key: &str| InvalidateRequest {
        group: GROUP.into(),
        keys: vec![Bytes::copy_from_slice(key.as_bytes())],
        tags: Vec::new(),
    };
    let done = cluster.client(0).invalidate(request(&keys[0])).await.expect("done").into_inner();
    assert_eq!((done.members_reached, done.members_total), (2, 2));
    let refused = cluster.client(1).invalidate(request(&keys[0])).await.expect_err("not a member");
    assert_eq!(refused.code(), Code::Unavailable);
    cluster.stop().await;
}
