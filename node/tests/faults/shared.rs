//! What the rig and its parts share: the names of the cluster, and a bounded wait.

use std::time::{Duration, Instant};

pub(super) const NAMESPACE: &str = "prod";
pub(super) const CLUSTER: &str = "shop";
pub(super) const GROUP: &str = "pages";

/// Polls until `holds` returns true.
pub(super) async fn until<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    holds: impl Fn() -> F,
) {
    let end = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
