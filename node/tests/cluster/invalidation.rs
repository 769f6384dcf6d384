//! An invalidation reaches every copy, whatever happens to the links between the members.

use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::InvalidateRequest;
use tokio::time::sleep;

use super::links::Fault;
use super::rig::{Cluster, eventually, get};
use crate::GROUP;

const LIMIT: Duration = Duration::from_secs(10);

/// Invalidates one key. Returns how many members were reached, and of how many.
async fn invalidate(cluster: &Cluster, member: usize, key: &str) -> (u32, u32) {
    let keys = vec![Bytes::copy_from_slice(key.as_bytes())];
    let request = InvalidateRequest { group: GROUP.into(), keys, tags: Vec::new() };
    let done = cluster.client(member).invalidate(request).await.expect("done").into_inner();
    (done.members_reached, done.members_total)
}

async fn read(cluster: &Cluster, member: usize, key: &str) -> String {
    let value = get(cluster.client(member), GROUP, key).await.expect("a value").value;
    String::from_utf8(value.to_vec()).expect("text")
}

/// Keys that `owner` owns, read once at member `reader`.
async fn keys_of(cluster: &Cluster, owner: &str, reader: usize, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for n in 0.. {
        let key = format!("k{n}");
        if cluster.owner(GROUP, &key).await == owner {
            assert_eq!(read(cluster, reader, &key).await, format!("{key} 1"));
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}

/// Waits until member 0 bypasses exactly one more peer.
async fn until_bypassed(cluster: &Cluster) {
    let down = || async { cluster.metric(0, "larder_peers_down_total").await == Some(1.0) };
    eventually(LIMIT, down).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_left_the_ring_and_returned_drops_what_was_invalidated_in_between() {
    let (own, others) = Cluster::with_own_view().await;
    let key = keys_of(&own, "shop-2", 0, 1).await.remove(0);
    // shop-2 leaves the ring of shop-0, and neither reaches the other.
    own.remove_member("shop-2").await;
    eventually(LIMIT, || async { own.ring_of(0).await.len() == 2 }).await;
    own.set_fault((&own, 0), (&others, 1), Some(Fault::Silent));
    own.set_fault((&others, 1), (&own, 0), Some(Fault::Silent));
    invalidate(&own, 0, &key).await;
    assert_eq!(read(&others, 1, &key).await, format!("{key} 1"), "shop-2 cannot know");

    // Time for a read to come before the first sync.
    let late = Fault::LateSync(Duration::from_millis(200));
    own.set_fault((&own, 0), (&others, 1), Some(late));
    own.put_member("shop-2", "uid of shop-2", others.peer_address(1)).await;
    eventually(LIMIT, || async { own.ring_of(0).await.len() == 3 }).await;
    // From its return on, shop-0 never answers with the old value.
    assert_eq!(read(&own, 0, &key).await, format!("{key} 2"));
    eventually(LIMIT, || async { read(&others, 1, &key).await == format!("{key} 2") }).await;
    assert_eq!(invalidate(&own, 0, &key).await, (3, 3));
    own.stop().await;
    others.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_visible_yet_counts_as_not_reached_and_catches_up_when_it_appears() {
    let (own, others) = Cluster::with_own_view().await;
    let key = keys_of(&own, "shop-2", 0, 1).await.remove(0);
    own.remove_member("shop-2").await;
    eventually(LIMIT, || async { own.ring_of(0).await.len() == 2 }).await;
    own.set_fault((&others, 1), (&own, 0), Some(Fault::Silent));
    // A member that left is still called for a while.
    own.set_fault((&own, 0), (&others, 1), Some(Fault::Silent));
    // shop-1 has a newer ring and names shop-2.
    others.advance_beyond(&own).await;
    eventually(LIMIT, || async { invalidate(&own, 0, &key).await == (2, 3) }).await;
    assert_eq!(read(&others, 1, &key).await, format!("{key} 1"), "shop-2 cannot know");

    own.set_fault((&own, 0), (&others, 1), None);
    own.put_member("shop-2", "uid of shop-2", others.peer_address(1)).await;
    eventually(LIMIT, || async { own.ring_of(0).await.len() == 3 }).await;
    eventually(LIMIT, || async { read(&others, 1, &key).await == format!("{key} 2") }).await;
    assert_eq!(invalidate(&own, 0, &key).await, (3, 3));
    own.stop().await;
    others.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_only_calls_the_invalidating_one_counts_as_not_reached_and_catches_up() {
    let (own, others) = Cluster::with_own_view().await;
    let key = keys_of(&own, "shop-2", 0, 1).await.remove(0);
    own.remove_member("shop-2").await;
    own.remove_member("shop-1").await;
    eventually(LIMIT, || async { own.ring_of(0).await.len() == 1 }).await;
    others.advance_beyond(&own).await;
    // No other member names them, but they call.
    eventually(LIMIT, || async { invalidate(&own, 0, &key).await == (1, 3) }).await;
    eventually(LIMIT, || async { read(&others, 1, &key).await == format!("{key} 2") }).await;
    own.stop().await;
    others.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_that_comes_while_a_peer_recovers_reaches_it() {
    let cluster = Cluster::start(3).await;
    let keys = keys_of(&cluster, "shop-2", 1, 8).await;
    cluster.set_fault((&cluster, 0), (&cluster, 2), Some(Fault::Silent));
    assert_eq!(invalidate(&cluster, 0, &keys[0]).await, (2, 3));
    until_bypassed(&cluster).await;
    // Every sync of the recovery takes long enough for another invalidation to come during it.
    let slow = Fault::SlowSync(Duration::from_millis(150));
    cluster.set_fault((&cluster, 0), (&cluster, 2), Some(slow));
    for key in &keys[1..] {
        invalidate(&cluster, 0, key).await;
    }
    for key in &keys {
        // Whether or not shop-2 is bypassed; its stand-in loads too.
        let old = format!("{key} 1");
        assert_ne!(read(&cluster, 0, key).await, old);
        eventually(LIMIT, || async { read(&cluster, 2, key).await != old }).await;
    }
    cluster.set_fault((&cluster, 0), (&cluster, 2), None);
    eventually(LIMIT, || async { invalidate(&cluster, 0, "another").await == (3, 3) }).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_made_before_the_owner_drops_the_key_does_not_survive() {
    let cluster = Cluster::start(3).await;
    let key = keys_of(&cluster, "shop-2", 1, 1).await.remove(0);
    let late = Fault::LateSync(Duration::from_millis(230));
    cluster.set_fault((&cluster, 0), (&cluster, 2), Some(late));
    cluster.set_fault((&cluster, 2), (&cluster, 0), Some(Fault::Silent));
    let copy = async {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(read(&cluster, 1, &key).await, format!("{key} 1"), "the owner still has it");
    };
    let (reached, ()) = tokio::join!(invalidate(&cluster, 0, &key), copy);
    assert_eq!(reached, (3, 3));
    for member in 0..3 {
        assert_eq!(read(&cluster, member, &key).await, format!("{key} 2"), "at shop-{member}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_that_timed_out_leaves_the_groups_other_keys() {
    let cluster = Cluster::start(3).await;
    let keys = keys_of(&cluster, "shop-2", 2, 10).await;
    cluster.set_fault((&cluster, 0), (&cluster, 2), Some(Fault::Silent));
    assert_eq!(invalidate(&cluster, 0, &keys[0]).await, (2, 3));
    until_bypassed(&cluster).await;
    cluster.set_fault((&cluster, 0), (&cluster, 2), None);
    let old = format!("{} 1", keys[0]);
    let dropped = || async { read(&cluster, 2, &keys[0]).await != old };
    eventually(LIMIT, dropped).await;
    for key in &keys[1..] {
        assert_eq!(read(&cluster, 2, key).await, format!("{key} 1"));
        assert_eq!(cluster.origin.loads_of(key), 1, "{key}");
    }
    assert_eq!(cluster.metric(0, "larder_peer_drops_missed_total").await, Some(1.0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_invalidations_than_the_log_holds_drop_their_group_and_no_other() {
    let cluster = Cluster::start(2).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("pages", &format!("{origin}/count/{{key}}"), 600_000).await;
    let known = || async { get(cluster.client(1), "pages", "a").await.is_ok() };
    eventually(LIMIT, known).await;
    let keys = keys_of(&cluster, "shop-1", 1, 5).await;
    let mut pages = Vec::new();
    for n in 0..20 {
        let page = format!("p{n}");
        if cluster.owner("pages", &page).await == "shop-1" {
            let value = get(cluster.client(1), "pages", &page).await.expect("a value").value;
            pages.push((page, value));
        }
    }
    assert!(!pages.is_empty(), "shop-1 owns about half");
    cluster.set_fault((&cluster, 0), (&cluster, 1), Some(Fault::Silent));
    cluster.set_fault((&cluster, 1), (&cluster, 0), Some(Fault::Silent));
    assert_eq!(invalidate(&cluster, 0, "first").await, (1, 2));
    until_bypassed(&cluster).await;
    // With no peer that answers, an invalidation does not wait.
    let cache = cluster.cache(0);
    for n in 0..10_000 {
        let key = vec![Bytes::from(format!("other {n}"))];
        cache.invalidate(GROUP, key).await.expect("done");
    }
    for direction in [(0, 1), (1, 0)] {
        cluster.set_fault((&cluster, direction.0), (&cluster, direction.1), None);
    }
    for key in &keys {
        let dropped = || async { read(&cluster, 1, key).await == format!("{key} 2") };
        eventually(LIMIT, dropped).await;
    }
    for (page, value) in pages {
        assert_eq!(get(cluster.client(1), "pages", &page).await.expect("a value").value, value);
    }
    cluster.stop().await;
}
