//! Invalidation by tag reaches every copy, and nothing else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_proto::v1::InvalidateRequest;
use larder_proto::v1::cache_client::CacheClient;
use tonic::Code;
use tonic::transport::Channel;

use super::links::Fault;
use super::rig::{Cluster, eventually, get};
use crate::GROUP;

/// Rounds of the measurement: the 99th percentile is the second-slowest one.
const ROUNDS: usize = 100;
/// The longest time to every copy, in 99 of 100 invalidations.
const TARGET: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(10);

/// Returns how many members were reached, and of how many.
async fn invalidate_tag(mut client: CacheClient<Channel>, tag: &str) -> (u32, u32) {
    let tags = vec![Bytes::copy_from_slice(tag.as_bytes())];
    let request = InvalidateRequest { group: GROUP.into(), keys: Vec::new(), tags };
    let done = client.invalidate(request).await.expect("done").into_inner();
    (done.members_reached, done.members_total)
}

async fn read(cluster: &Cluster, member: usize, key: &str) -> String {
    let answer = cluster.cache(member).read(GROUP, key.as_bytes()).await.expect("a value");
    String::from_utf8(answer.present().expect("present").to_vec()).expect("text")
}

/// Reads keys at every member, twice, so that every member has each as owner or as a copy.
async fn read_everywhere(cluster: &Cluster, keys: &[String], load: usize) {
    for key in keys {
        for member in [0, 1, 2, 0, 1, 2] {
            let value = read(cluster, member, key).await;
            assert_eq!(value, format!("{key} {load}"), "at shop-{member}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_reaches_every_copy_within_100_ms_and_drops_no_other_value() {
    let cluster = Cluster::start(3).await;
    let keys_with = |tag: usize| (0..10).map(|n| format!("k{n}#t{tag},all")).collect::<Vec<_>>();
    let by_tag: Vec<_> = (0..10).map(keys_with).collect();
    let untagged = ["plain".to_owned()];
    read_everywhere(&cluster, &by_tag.concat(), 1).await;
    read_everywhere(&cluster, &untagged, 1).await;
    let mut owners = Vec::new();
    for key in by_tag.concat() {
        owners.push(cluster.owner(GROUP, &key).await);
    }
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners, ["shop-0", "shop-1", "shop-2"]);

    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let (tag, caller) = (round % 10, round % 3);
        let began = Instant::now();
        let reached = invalidate_tag(cluster.client(caller), &format!("t{tag}")).await;
        times.push(began.elapsed());
        assert_eq!(reached, (3, 3));
        // From now on no member answers with an old value.
        read_everywhere(&cluster, &by_tag[tag], 2 + round / 10).await;
    }
    times.sort_unstable();
    let (median, p99) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100 - 1]);
    println!("C5 tag invalidation to every copy: median {median:?}, p99 {p99:?}, {ROUNDS} rounds");
    for key in by_tag.concat() {
        assert_eq!(cluster.origin.loads_of(&key), 1 + ROUNDS / 10, "{key}");
    }
    assert_eq!(invalidate_tag(cluster.client(0), "all").await, (3, 3));
    read_everywhere(&cluster, &by_tag.concat(), 2 + ROUNDS / 10).await;
    read_everywhere(&cluster, &untagged, 1).await;
    cluster.stop().await;
    assert!(p99 < TARGET, "{p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_unreachable_drops_the_tag_after_it_is_back_and_keeps_the_rest() {
    let cluster = Cluster::start(3).await;
    let mut owned = Vec::new();
    for n in 0.. {
        let key = format!("k{n}#{}", ["red", "blue"][n % 2]);
        if cluster.owner(GROUP, &key).await == "shop-2" {
            owned.push(key);
        }
        if owned.len() == 20 {
            break;
        }
    }
    for key in &owned {
        assert_eq!(read(&cluster, 2, key).await, format!("{key} 1"));
    }
    let set = |fault| {
        for (from, to) in [(0, 2), (2, 0)] {
            cluster.set_fault((&cluster, from), (&cluster, to), fault);
        }
    };
    set(Some(Fault::Silent));
    assert_eq!(invalidate_tag(cluster.client(0), "red").await, (2, 3));
    set(None);
    let (red, blue): (Vec<_>, Vec<_>) = owned.iter().partition(|key| key.ends_with("red"));
    assert!(!red.is_empty() && !blue.is_empty());
    for key in red {
        let is_dropped = || async { read(&cluster, 2, key).await != format!("{key} 1") };
        eventually(LIMIT, is_dropped).await;
    }
    for key in blue {
        assert_eq!(read(&cluster, 2, key).await, format!("{key} 1"));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_passes_a_tag_on_and_drops_its_own_copies() {
    let cluster = Cluster::start(3).await;
    let sidecar = cluster.start_sidecar().await;
    let client = CacheClient::new(cluster.channel_to(sidecar.addresses().grpc));
    let value = |key: &'static str| {
        let client = client.clone();
        async move { get(client, GROUP, key).await.expect("a value").value }
    };
    assert_eq!(
        (value("a#red").await, value("b#blue").await),
        ("a#red 1".into(), "b#blue 1".into())
    );
    assert_eq!(invalidate_tag(client.clone(), "red").await, (3, 3));
    assert_eq!(
        (value("a#red").await, value("b#blue").await),
        ("a#red 2".into(), "b#blue 1".into())
    );
    let tags = vec![Bytes::new()];
    let request = InvalidateRequest { group: GROUP.into(), keys: Vec::new(), tags };
    for mut client in [client.clone(), cluster.client(0)] {
        let refused = client.invalidate(request.clone()).await.expect_err("an empty tag");
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "a tag is empty"));
    }
    sidecar.drain().await;
    cluster.stop().await;
}
