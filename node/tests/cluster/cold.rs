//! What a slow origin sees of a tier, and how long its readers wait.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use larder_proto::config::Limits;
use larder_proto::v1::{GetRequest, GetResponse};
use tonic::{Request, Status};

use super::rig::{Cluster, eventually, get, raw_get};
use crate::GROUP;

/// Concurrent loads that three members with the default limit may run.
const CAP: usize = 3 * 32;
const KEYS: usize = 300;

/// Reads every key at once at each of the members.
async fn storm(cluster: &Cluster, members: std::ops::Range<usize>) {
    let reads = (0..KEYS).flat_map(|key| members.clone().map(move |member| (key, member)));
    let results = join_all(reads.map(async |(key, member)| {
        get(cluster.client(member), GROUP, &format!("key {key}")).await
    }));
    let failed: Vec<Status> = results.await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} reads failed: {:?}", failed.len(), failed.first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_restart_of_the_tier_stays_within_the_cap_and_hits_come_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.origin.delay_ms.store(50, Ordering::SeqCst);
    storm(&cluster, 0..3).await;
    let (loads, most) = cluster.origin.loads();
    assert_eq!(loads, KEYS, "each key was loaded once");
    assert!((32..=CAP).contains(&most), "{most} loads ran at one time");

    (0..3).for_each(|member| cluster.crash(member));
    (0..3).for_each(|member| cluster.add(&format!("shop-{member}"), 8 << 20));
    for member in 3..6 {
        let whole = || async {
            let names = BTreeSet::from_iter(cluster.ring_of(member).await);
            names == ["shop-0", "shop-1", "shop-2"].map(str::to_owned).into()
        };
        eventually(Duration::from_secs(20), whole).await;
    }
    storm(&cluster, 3..6).await;
    let (after, most) = cluster.origin.loads();
    assert!(after >= 2 * KEYS, "the tier was cold: {after} loads");
    assert!(most <= CAP, "{most} loads ran at one time");
    storm(&cluster, 3..6).await;
    let (warm, _) = cluster.origin.loads();
    assert_eq!(warm, after, "every read was a hit");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_joins_a_forward_keeps_its_own_longer_deadline() {
    let limits = Limits { default_timeout_ms: 300, ..Limits::default() };
    let cluster = Cluster::start_with(2, limits).await;
    cluster.origin.delay_ms.store(900, Ordering::SeqCst);
    let patient = async |member: usize, key: &str| -> Result<GetResponse, Status> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let mut request = Request::new(GetRequest { group: GROUP.into(), key, explain: false });
        request.set_timeout(Duration::from_secs(5));
        cluster.client(member).get(request).await.map(tonic::Response::into_inner)
    };
    for member in 0..2 {
        // One member owns the key and loads it, the other one forwards.
        let key = format!("slow {member}");
        let hasty = raw_get(cluster.addresses(member).grpc, GROUP, &key, "100m");
        let joined = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            patient(member, &key).await
        };
        let (hasty, joined, other) = tokio::join!(hasty, joined, patient(1 - member, &key));
        assert_eq!(hasty, tonic::Code::DeadlineExceeded);
        for answer in [joined, other] {
            assert_eq!(answer.expect("in time").value, format!("{key} 1"));
        }
    }
    cluster.stop().await;
}
