//! Changes of the ring that the origin must not notice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use larder_node::app::Running;
use larder_proto::v1::InvalidateRequest;

use super::links::{Fault, Lie};
use super::rig::{CAPACITY_BYTES, Cluster, get};
use crate::GROUP;

pub(super) const KEYS: usize = 1_500;
/// A tenth of the keys. Without a hand-over, a join and a leave load half of them again, and a
/// rolling restart loads all. A busy machine may miss the time in which a previous owner is asked.
pub(super) const MOST_LOADS: usize = KEYS / 10;
const LONG: Duration = Duration::from_secs(20);

fn key(number: usize) -> String {
    format!("student{number}")
}

/// Members whose entries do not expire while a busy machine runs the test.
async fn start(members: usize) -> Cluster {
    let cluster = Cluster::start(members).await;
    let_entries_live(&cluster, members).await;
    cluster
}

/// Waits until entries of these members no longer expire during a test.
pub(super) async fn let_entries_live(cluster: &Cluster, members: usize) {
    cluster.put_group(GROUP, "http://unused/{key}", 3_600_000).await;
    for member in 0..members {
        let applied = || async {
            let answer = cluster.cache(member).read(GROUP, b"first").await.expect("a value");
            cluster.cache(member).explain(GROUP, b"first", &answer).policy == "Lru"
        };
        cluster.eventually(LONG, applied).await;
    }
}

/// Reads every key once, each at one of these members.
pub(super) async fn read_all(cluster: &Cluster, members: &[usize]) {
    let reads = (0..KEYS).map(|number| {
        let client = cluster.client(members[number % members.len()]);
        async move { get(client, GROUP, &key(number)).await.expect("a value") }
    });
    stream::iter(reads).buffer_unordered(16).for_each(|_| async {}).await;
}

/// Waits until these members have a ring of themselves, and are ready.
async fn settled(cluster: &Cluster, members: &[usize]) {
    for &member in members {
        let whole = || async {
            cluster.is_ready(member) && cluster.ring_of(member).await.len() == members.len()
        };
        cluster.eventually(LONG, whole).await;
    }
}

async fn taken(cluster: &Cluster, member: usize) -> f64 {
    cluster.metric(member, "larder_taken_over_entries_total").await.expect("a counter")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_does_not_notice_a_member_that_joins_and_leaves() {
    let mut cluster = start(3).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let loads_before = cluster.origin.loads().0;

    cluster.add("shop-3", CAPACITY_BYTES);
    cluster.eventually(LONG, || async { cluster.ring_of(0).await.len() == 4 }).await;
    // Without a pause: the first keys are read before they are taken over.
    read_all(&cluster, &[0, 1, 2]).await;
    settled(&cluster, &[0, 1, 2, 3]).await;
    let seconds = cluster.metric(3, "larder_take_over_duration_seconds").await.expect("a gauge");
    let moved = taken(&cluster, 3).await;
    let mut previous = BTreeSet::new();
    for number in 0..40 {
        let (cache, key) = (cluster.cache(3), key(number));
        let answer = cache.read(GROUP, key.as_bytes()).await.expect("a value");
        let explanation = cache.explain(GROUP, key.as_bytes(), &answer);
        assert_eq!(explanation.previous_owner.is_empty(), explanation.owner != "shop-3");
        previous.insert(explanation.previous_owner);
    }
    assert!(previous.len() > 1 && !previous.contains("shop-3"), "{previous:?}");
    read_all(&cluster, &[0, 1, 2, 3]).await;
    let loads_joined = cluster.origin.loads().0 - loads_before;

    let leaver: Running = cluster.take(3);
    let drain = tokio::spawn(leaver.drain());
    read_all(&cluster, &[0, 1, 2]).await;
    assert!(drain.await.expect("no panic"), "nothing is cut short");
    settled(&cluster, &[0, 1, 2]).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let loads_left = cluster.origin.loads().0 - loads_before - loads_joined;
    println!("{moved} entries in {seconds} s, {loads_joined} loads, {loads_left} after the end");
    assert!(moved > KEYS as f64 / 5.0, "about a quarter is taken over: {moved}");
    assert!(loads_joined + loads_left <= MOST_LOADS, "{loads_joined} and {loads_left} loads");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_does_not_notice_a_rolling_restart() {
    let mut cluster = start(3).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let loads_before = cluster.origin.loads().0;
    let mut members = vec![0, 1, 2];
    for ordinal in (0..3).rev() {
        let others: Vec<_> = members.iter().copied().filter(|m| *m != members[ordinal]).collect();
        let drain = tokio::spawn(cluster.take(members[ordinal]).drain());
        read_all(&cluster, &others).await;
        assert!(drain.await.expect("no panic"), "nothing is cut short");
        settled(&cluster, &others).await;
        members[ordinal] = cluster.add_pod(&format!("shop-{ordinal}"), "next", CAPACITY_BYTES);
        read_all(&cluster, &others).await;
        settled(&cluster, &members).await;
        read_all(&cluster, &members).await;
        println!("restarted shop-{ordinal}: {} loads", cluster.origin.loads().0 - loads_before);
    }
    let more = cluster.origin.loads().0 - loads_before;
    assert!(more <= MOST_LOADS, "{more} of {KEYS} keys loaded again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_invalidated_at_its_new_owner_does_not_come_back_from_the_old_one() {
    let mut cluster = start(3).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let mut of_leaver = Vec::new();
    for number in 0..60 {
        if cluster.owner(GROUP, &key(number)).await == "shop-2" {
            of_leaver.push(key(number));
        }
    }
    // Nothing that shop-0 invalidates reaches shop-2. Its link to shop-1 works both ways.
    let late = Some(Fault::LateSync(Duration::from_secs(60)));
    cluster.links.set("shop-0", cluster.peer_address(2), late);
    cluster.links.set("shop-2", cluster.peer_address(0), late);
    let keys = of_leaver.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
    let request = InvalidateRequest { group: GROUP.into(), keys, tags: Vec::new() };
    let done = cluster.client(0).invalidate(request).await.expect("done").into_inner();
    assert_eq!((done.members_reached, done.members_total), (2, 3));

    let leaver = cluster.take(2);
    leaver.drain().await;
    settled(&cluster, &[0, 1]).await;
    for key in &of_leaver {
        for member in [0, 1] {
            let value = get(cluster.client(member), GROUP, key).await.expect("a value").value;
            assert_eq!(value, format!("{key} 2"), "member {member}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_previous_owner_that_lies_or_freezes_costs_only_time() {
    let faults = [
        Fault::SlowTakeOver(Duration::from_secs(60)),
        Fault::Lie(Lie::Keys),
        Fault::Lie(Lie::Endless),
        Fault::Lie(Lie::TooMuch),
    ];
    let runs = faults.map(|fault| async move {
        let mut cluster = start(1).await;
        for number in 0..200 {
            get(cluster.client(0), GROUP, &key(number)).await.expect("a value");
        }
        cluster.links.set("shop-1", cluster.peer_address(0), Some(fault));
        let began = Instant::now();
        cluster.add("shop-1", CAPACITY_BYTES);
        settled(&cluster, &[0, 1]).await;
        assert!(began.elapsed() < Duration::from_secs(12), "{fault:?}: {:?}", began.elapsed());
        let mut owned = 0;
        if fault == Fault::Lie(Lie::Keys) {
            for number in 0..50 {
                let owner = cluster.owner(GROUP, &format!("other{number}")).await;
                owned += u32::from(owner == "shop-1");
            }
            assert!((1..50).contains(&owned), "{owned} keys of the new member");
        }
        assert_eq!(taken(&cluster, 1).await, f64::from(owned), "{fault:?}");
        for number in 0..20 {
            let value = get(cluster.client(1), GROUP, &key(number)).await.expect("a value").value;
            assert!(value.starts_with(key(number).as_bytes()), "{fault:?}");
        }
        cluster.stop().await;
    });
    futures::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dies_while_it_hands_over_delays_the_new_one_shortly() {
    let mut cluster = start(2).await;
    read_all(&cluster, &[0, 1]).await;
    let slow = Some(Fault::SlowTakeOver(Duration::from_millis(400)));
    cluster.links.set("shop-2", cluster.peer_address(1), slow);
    cluster.add("shop-2", CAPACITY_BYTES);
    cluster.eventually(LONG, || async { cluster.ring_of(2).await.len() == 3 }).await;
    cluster.crash(1);
    let began = Instant::now();
    let ready = || async { cluster.is_ready(2) };
    cluster.eventually(LONG, ready).await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert!(taken(&cluster, 2).await > 0.0, "the other one has handed over");
    read_all(&cluster, &[0, 2]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hottest_keys_of_a_member_that_dies_are_warm_at_its_stand_in() {
    let mut cluster = start(1).await;
    cluster.replica_percent = 12;
    for member in 1..4 {
        cluster.add(&format!("shop-{member}"), CAPACITY_BYTES);
    }
    // The first member keeps no replicas.
    cluster.take(0).drain().await;
    settled(&cluster, &[1, 2, 3]).await;
    read_all(&cluster, &[1, 2, 3]).await;
    let replicated = || async {
        let mut sum = 0.0;
        for member in 1..4 {
            let series = "larder_replicated_entries_total";
            sum += cluster.metric(member, series).await.expect("a counter");
        }
        sum >= KEYS as f64
    };
    cluster.eventually(LONG, replicated).await;
    let loads = cluster.origin.loads().0;
    let invalidated = Bytes::from(key(0));
    let request =
        InvalidateRequest { group: GROUP.into(), keys: vec![invalidated], tags: Vec::new() };
    let done = cluster.client(1).invalidate(request).await.expect("done").into_inner();
    assert_eq!(done.members_reached, 3);
    let before = cluster.origin.loads_of(&key(0));

    cluster.crash(3);
    read_all(&cluster, &[1, 2]).await;
    let more = cluster.origin.loads().0 - loads;
    println!("{more} loads after a third of {KEYS} keys lost their owner");
    assert!(more <= KEYS / 20, "{more} loads");
    assert!(cluster.origin.loads_of(&key(0)) > before, "what was invalidated is loaded again");
    cluster.stop().await;
}
