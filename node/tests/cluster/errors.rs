//! The error of a read when the origin fails, with and without the key's owner.

use tonic_types::StatusExt;

use super::rig::{Cluster, get};

/// Reason and text of the error of a read whose load always fails.
async fn failure(cluster: &Cluster, member: usize) -> (String, String) {
    let status = get(cluster.client(member), "students", "fails").await.expect_err("planned");
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (reason.expect("every error has a reason"), status.message().to_owned())
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
