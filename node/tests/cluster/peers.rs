//! Peers that are slow, stalled or silent.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_proto::v1::peer_client::PeerClient;
use larder_proto::v1::{FetchKey, FetchRequest, Outcome};
use tokio::time::{sleep, sleep_until};
use tonic::Code;

use super::links::Fault;
use super::rig::{Cluster, eventually, get};
use crate::GROUP;

const PEERS_DOWN: &str = "larder_peers_down_total";

/// The first of the keys `k0`, `k1`, ... that `owner` owns.
async fn key_of(cluster: &Cluster, group: &str, owner: &str) -> String {
    for n in 0.. {
        let key = format!("k{n}");
        if cluster.owner(group, &key).await == owner {
            return key;
        }
    }
    unreachable!("every member owns keys")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_batch_ejects_nobody_and_fails_no_patient_request() {
    let cluster = Cluster::start_without_copies(3).await;
    let key = key_of(&cluster, GROUP, "shop-2").await;
    // As if the responses were large and the network narrow.
    let slow = Fault::SlowFetch(Duration::from_millis(1_800));
    cluster.set_fault((&cluster, 0), (&cluster, 2), Some(slow));
    let began = Instant::now();
    let value = get(cluster.client(0), GROUP, &key).await.expect("a value").value;
    assert_eq!(value, format!("{key} 1"), "the owner's");
    assert!(began.elapsed() > Duration::from_millis(1_700), "{:?}", began.elapsed());
    assert_eq!(cluster.metric(0, PEERS_DOWN).await, Some(0.0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_held_up_past_its_life_reaches_no_read_that_begins_later() {
    let cluster = Cluster::start_without_copies(2).await;
    let url = cluster.serve_http_origin().await;
    let life = Duration::from_millis(600);
    cluster.put_group("brief", &format!("{url}/count/{{key}}"), 600).await;
    for member in 0..2 {
        let known = || async { get(cluster.client(member), "brief", "a").await.is_ok() };
        eventually(Duration::from_secs(5), known).await;
    }
    let key = key_of(&cluster, "brief", "shop-1").await;
    // The question for its owner has loaded it.
    sleep(life).await;
    let loaded = Instant::now();
    let old = get(cluster.client(1), "brief", &key).await.expect("loaded").value;
    cluster.set_fault((&cluster, 0), (&cluster, 1), Some(Fault::SlowFetch(2 * life)));
    let early = tokio::spawn({
        let (client, key) = (cluster.client(0), key.clone());
        async move { get(client, "brief", &key).await }
    });
    sleep_until((loaded + life + Duration::from_millis(50)).into()).await;
    cluster.set_fault((&cluster, 0), (&cluster, 1), None);
    let late = get(cluster.client(0), "brief", &key).await.expect("a value").value;
    assert_ne!(late, old, "its life ended before this read began");
    early.await.expect("no panic").expect("a value");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_blocks_its_thread_ejects_nobody_and_delays_no_other_member() {
    let cluster = Cluster::start_without_copies(3).await;
    let owner = cluster.owner(GROUP, "blocks").await;
    let index: usize = owner.trim_start_matches("shop-").parse().expect("an ordinal");
    let others: Vec<usize> = (0..3).filter(|member| *member != index).collect();
    let key = key_of(&cluster, GROUP, &owner).await;
    let cold = cluster.client(index);
    cluster.cache(index).invalidate(GROUP, vec!["blocks".into()]).await.expect("cold again");
    let blocked = tokio::spawn(async move { get(cold, GROUP, "blocks").await });
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_200) {
        for member in &others {
            let read = Instant::now();
            get(cluster.client(*member), GROUP, &key).await.expect("a value");
            assert!(read.elapsed() < Duration::from_millis(400), "{:?}", read.elapsed());
        }
    }
    blocked.await.expect("no panic").expect("a value");
    for member in 0..3 {
        assert_eq!(cluster.metric(member, PEERS_DOWN).await, Some(0.0), "at shop-{member}");
        assert_eq!(cluster.ring_of(member).await.len(), 3);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ejects_at_most_half_of_the_peers_and_reads_continue() {
    let cluster = Cluster::start(3).await;
    for silent in [1, 2] {
        cluster.set_fault((&cluster, 0), (&cluster, silent), Some(Fault::Silent));
    }
    let ejected = || async { cluster.metric(0, PEERS_DOWN).await == Some(1.0) };
    eventually(Duration::from_secs(5), ejected).await;
    for n in 0..6 {
        get(cluster.client(0), GROUP, &format!("cold {n}")).await.expect("a value");
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.metric(0, PEERS_DOWN).await, Some(1.0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_that_waits_for_its_batch_is_not_answered_with_a_longer_life_than_it_has() {
    const WAIT_MS: u32 = 300;
    let cluster = Cluster::start(1).await;
    get(cluster.client(0), GROUP, "hit").await.expect("a value");
    cluster.origin.delay_ms.store(2_000, Ordering::SeqCst);
    let mut peer = PeerClient::new(cluster.channel_to(cluster.peer_address(0)));
    let key = |key: &'static str| FetchKey {
        group: GROUP.into(),
        key: Bytes::from_static(key.as_bytes()),
        timeout_ms: WAIT_MS,
        asks_once: false,
    };
    let request = |keys| FetchRequest { from: "a test".into(), keys, ..Default::default() };
    let alone = peer.fetch(request(vec![key("hit")])).await.expect("results").into_inner();
    let batch = request(vec![key("hit"), key("slow")]);
    let batch = peer.fetch(batch).await.expect("results").into_inner();
    let (before, [after, slow]) = (&alone.results[0], &batch.results[..]) else { panic!() };
    assert_eq!((slow.outcome(), Code::from(slow.code)), (Outcome::Error, Code::DeadlineExceeded));
    assert!(after.remaining_ms + u64::from(WAIT_MS) <= before.remaining_ms, "{after:?}");
    assert!(after.age_ms >= u64::from(WAIT_MS));
    cluster.stop().await;
}
