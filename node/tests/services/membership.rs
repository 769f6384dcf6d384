//! Members that join, leave, and lose their registry in every possible way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions, PutOptions};
use larder_node::membership::{self, Membership, MembershipOptions, MembershipView};
use larder_proto::keys::Keys;
use larder_proto::registry::{Metadata, Registration};
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use tokio::sync::watch;

use super::PATIENCE;
use super::proxy::Proxy;
use super::registry::Backend;

const TTL: Duration = Duration::from_secs(2);
const CONTRACT: &str = r#"{"policy":"Lru","origin":{"http":{"urlTemplate":"http://o/{key}"}},
    "freshness":{"ttlMs":1000},"originLimits":{"concurrency":1,"timeoutMs":1}}"#;

fn keys() -> Keys {
    Keys::new("test", "shop")
}

fn registration(uid: &str) -> Registration {
    let address = || "127.0.0.1:1".to_owned();
    Registration {
        op: 0,
        address: address(),
        metadata: Metadata {
            uid: uid.into(),
            peer_address: address(),
            http_address: address(),
            weight: 1,
            zone: None,
            version: "0.1.0".into(),
        },
    }
}

fn join(name: &str, uid: &str, address: std::net::SocketAddr) -> Membership {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    join_with(&tasks, name, uid, address)
}

/// Stopping `tasks` without [`Membership::leave`] is a crash of the member's process.
fn join_with(tasks: &Tasks, name: &str, uid: &str, address: std::net::SocketAddr) -> Membership {
    let options = MembershipOptions {
        endpoints: vec![format!("http://{address}")],
        tls_directory: None,
        keys: keys(),
        name: name.into(),
        registration: registration(uid),
        lease_ttl: TTL,
    };
    membership::start(options, tasks, Random::seeded(1), Clock::start())
}

async fn until(
    views: &watch::Receiver<Arc<MembershipView>>,
    what: &str,
    holds: impl Fn(&MembershipView) -> bool,
) {
    let mut views = views.clone();
    let waited = tokio::time::timeout(PATIENCE, views.wait_for(|view| holds(view))).await.is_ok();
    let last = Arc::clone(&views.borrow());
    assert!(waited, "never: {what}; last view: {last:?}");
}

async fn is(state: &watch::Receiver<bool>, wanted: bool, what: &str) {
    let mut state = state.clone();
    let waited = tokio::time::timeout(PATIENCE, state.wait_for(|state| *state == wanted)).await;
    assert!(waited.is_ok(), "never {wanted}: {what}");
}

async fn three(address: std::net::SocketAddr) -> [Membership; 3] {
    let members = [0, 1, 2].map(|n| join(&format!("shop-{n}"), &format!("uid-{n}"), address));
    for member in &members {
        until(&member.views, "three members", |view| view.members.len() == 3).await;
        is(&member.registered, true, "registered").await;
    }
    members
}

/// Tracks the smallest size of a member's ring.
fn smallest_ring(views: &watch::Receiver<Arc<MembershipView>>) -> Arc<AtomicUsize> {
    let smallest = Arc::new(AtomicUsize::new(usize::MAX));
    let (seen, mut views) = (Arc::clone(&smallest), views.clone());
    tokio::spawn(async move {
        loop {
            seen.fetch_min(views.borrow_and_update().members.len(), Ordering::SeqCst);
            if views.changed().await.is_err() {
                return;
            }
        }
    });
    smallest
}

async fn registered_keys(client: &mut Client) -> Vec<(String, i64)> {
    let options = GetOptions::new().with_prefix();
    let got = client.get(keys().members(), Some(options)).await.expect("up");
    let named = |kv: &etcd_client::KeyValue| (kv.key_str().expect("text").to_owned(), kv.lease());
    got.kvs().iter().map(named).collect()
}

fn holds(uid: &'static str) -> impl Fn(&MembershipView) -> bool {
    move |view| view.members.get("shop-0").is_some_and(|held| held.metadata.uid == uid)
}

/// Waits until `wanted` members are registered.
async fn keys_become(client: &mut Client, wanted: usize) {
    let reached = async {
        while registered_keys(client).await.len() != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "never {wanted} registered members");
}

async fn members_join_and_leave(backend: Backend) {
    let [zero, one, two] = three(backend.address()).await;
    let began = Instant::now();
    one.leave().await;
    for member in [&zero, &two] {
        let gone = |view: &MembershipView| !view.members.contains_key("shop-1");
        until(&member.views, "the third out of the ring", gone).await;
        assert!(member.views.borrow().departed.is_empty(), "deregistering skips the grace time");
    }
    assert!(began.elapsed() < TTL, "deregistering does not wait for the lease to expire");
    let mut client = backend.client().await;
    assert_eq!(registered_keys(&mut client).await.len(), 2);
}

async fn contracts_arrive_within_a_second_and_bad_values_change_nothing(backend: Backend) {
    let member = join("shop-0", "uid-0", backend.address());
    is(&member.connected, true, "connected").await;
    let mut client = backend.client().await;
    let began = Instant::now();
    client.put(keys().group("students"), CONTRACT, None).await.expect("up");
    until(&member.views, "the group", |view| view.groups.contains_key("students")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    client.put(keys().group("students"), "{", None).await.expect("up");
    client.put(keys().member("shop-9"), "{}", None).await.expect("up");
    client.put(format!("{}else/x", keys().root()), "?", None).await.expect("up");
    until(&member.views, "two unreadable", |view| view.counts.unreadable == 2).await;
    assert!(member.views.borrow().groups.contains_key("students"));

    client.delete(keys().group("students"), None).await.expect("up");
    until(&member.views, "no group", |view| view.groups.is_empty()).await;
}

async fn when_every_lease_is_revoked_the_ring_is_kept_and_all_register_again(backend: Backend) {
    let members = three(backend.address()).await;
    let smallest = members.each_ref().map(|member| smallest_ring(&member.views));
    let mut client = backend.client().await;
    let before = registered_keys(&mut client).await;
    let began = Instant::now();
    for lease in client.leases().await.expect("up").leases() {
        client.lease_revoke(lease.id()).await.expect("the lease exists");
    }
    let again = async {
        loop {
            let now = registered_keys(&mut client).await;
            let all_new = now.iter().all(|key| !before.contains(key));
            if now.len() == 3 && all_new {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("registered again");
    assert!(began.elapsed() < TTL, "within a lease: {:?}", began.elapsed());
    for member in &members {
        until(&member.views, "no departed member", |view| view.departed.is_empty()).await;
        is(&member.registered, true, "registered").await;
    }
    for smallest in smallest {
        assert_eq!(smallest.load(Ordering::SeqCst), 3, "the ring never changed");
    }
}

async fn a_cut_watch_resumes_by_revision_and_lists_again_after_a_compaction(backend: Backend) {
    let proxy = Proxy::to(backend.address()).await;
    let mut client = backend.client().await;
    client.put(keys().group("old"), CONTRACT, None).await.expect("up");
    let member = join("shop-0", "uid-0", proxy.address);
    until(&member.views, "the old group", |view| view.groups.contains_key("old")).await;
    is(&member.connected, true, "connected").await;

    proxy.cut();
    is(&member.connected, false, "connected").await;
    client.put(keys().group("missed"), CONTRACT, None).await.expect("up");
    proxy.restore();
    until(&member.views, "the missed group", |view| view.groups.contains_key("missed")).await;
    assert_eq!(member.views.borrow().counts.listings, 1, "resumed, not listed");
    is(&member.connected, true, "connected").await;

    proxy.cut();
    is(&member.connected, false, "connected").await;
    client.delete(keys().group("old"), None).await.expect("up");
    let put = client.put(keys().group("new"), CONTRACT, None).await.expect("up");
    client.compact(put.header().expect("a header").revision(), None).await.expect("up");
    assert_eq!(member.views.borrow().groups.len(), 2, "the last view is kept in the meantime");
    proxy.restore();
    until(&member.views, "the new group", |view| view.groups.contains_key("new")).await;
    let view = Arc::clone(&member.views.borrow());
    assert!(!view.groups.contains_key("old"), "the group deleted before the compaction is gone");
    assert_eq!((view.counts.listings, view.counts.rebuilds), (2, 0));
}

async fn a_silent_registry_is_detected_and_changes_nothing(backend: Backend) {
    let proxy = Proxy::to(backend.address()).await;
    let member = join("shop-0", "uid-0", proxy.address);
    until(&member.views, "itself", |view| view.members.len() == 1).await;
    is(&member.connected, true, "connected").await;
    let members = member.views.borrow().members.clone();
    let began = Instant::now();
    proxy.freeze();
    is(&member.connected, false, "connected").await;
    // Two heartbeats, each a third of a lease, and a margin for a loaded machine.
    assert!(began.elapsed() < TTL, "{:?}", began.elapsed());
    let mut client = backend.client().await;
    keys_become(&mut client, 0).await;
    assert_eq!(member.views.borrow().members, members);
    proxy.restore();
    is(&member.connected, true, "connected").await;
    keys_become(&mut client, 1).await;
    until(&member.views, "itself", |view| view.departed.is_empty()).await;
    assert_eq!(member.views.borrow().members, members);
}

async fn a_killed_and_restarted_registry_changes_nothing(mut backend: Backend) {
    let members = three(backend.address()).await;
    let smallest = members.each_ref().map(|member| smallest_ring(&member.views));
    backend.client().await.put(keys().group("g"), CONTRACT, None).await.expect("up");
    for member in &members {
        until(&member.views, "the group", |view| view.groups.len() == 1).await;
    }
    backend.restart().await;
    let mut client = backend.client().await;
    client.put(keys().group("h"), CONTRACT, None).await.expect("up");
    for member in &members {
        until(&member.views, "the other group", |view| view.groups.len() == 2).await;
        let counts = member.views.borrow().counts;
        assert_eq!((counts.listings, counts.rebuilds), (1, 0), "resumed by revision");
    }
    assert_eq!(registered_keys(&mut client).await.len(), 3);
    for smallest in smallest {
        assert_eq!(smallest.load(Ordering::SeqCst), 3, "the ring never changed");
    }
}

async fn a_rebuilt_empty_registry_is_filled_again(mut backend: Backend) {
    let members = three(backend.address()).await;
    let smallest = members.each_ref().map(|member| smallest_ring(&member.views));
    let mut client = backend.client().await;
    for _ in 0..20 {
        client.put(keys().group("g"), CONTRACT, None).await.expect("up");
    }
    for member in &members {
        until(&member.views, "the group", |view| view.groups.len() == 1).await;
    }
    backend.rebuild().await;
    let mut client = backend.client().await;
    keys_become(&mut client, 3).await;
    for member in &members {
        let settled = |view: &MembershipView| view.counts.rebuilds == 1 && view.departed.is_empty();
        until(&member.views, "the new registry", settled).await;
        assert_eq!(member.views.borrow().groups.len(), 1, "no deletion of the group was seen");
    }
    client.delete(keys().group("g"), None).await.expect("up");
    client.put(keys().group("h"), CONTRACT, None).await.expect("up");
    for member in &members {
        until(&member.views, "a new group", |view| view.groups.contains_key("h")).await;
    }
    for smallest in smallest {
        assert_eq!(smallest.load(Ordering::SeqCst), 3, "the ring never changed");
    }
}

async fn a_dying_pod_never_removes_its_successor(backend: Backend) {
    let first = join("shop-0", "first", backend.address());
    is(&first.registered, true, "the first").await;
    let second = join("shop-0", "second", backend.address());
    until(&second.views, "the successor's key", holds("second")).await;
    is(&second.registered, true, "the second").await;
    is(&first.registered, false, "the first").await;

    first.leave().await;
    let mut client = backend.client().await;
    assert_eq!(registered_keys(&mut client).await.len(), 1);
    assert!(holds("second")(&second.views.borrow()));
    second.leave().await;
    assert_eq!(registered_keys(&mut client).await.len(), 0);
}

/// An older pod is cut off from Kubernetes but not from etcd. Its container restarts after its
/// successor has registered.
async fn a_restarted_older_pod_never_takes_its_successors_key(backend: Backend) {
    let crash = Tasks::new(tokio::runtime::Handle::current());
    let first = join_with(&crash, "shop-0", "first", backend.address());
    is(&first.registered, true, "the first").await;
    let second = join("shop-0", "second", backend.address());
    is(&second.registered, true, "the second").await;
    crash.stop(PATIENCE).await.expect("its tasks stop");

    let restarted = join("shop-0", "first", backend.address());
    is(&restarted.superseded, true, "superseded").await;
    until(&restarted.views, "the successor's key", holds("second")).await;
    assert!(!*restarted.registered.borrow());
    assert!(*second.registered.borrow() && !*second.superseded.borrow());

    // A free name changes nothing: Kubernetes never gives it back to an older pod.
    second.leave().await;
    tokio::time::sleep(TTL).await;
    assert_eq!(registered_keys(&mut backend.client().await).await.len(), 0);
    let third = join("shop-0", "third", backend.address());
    is(&third.registered, true, "the third").await;
}

/// The older pod's lease is gone before its successor registers, so the successor never sees it.
async fn a_pod_without_a_lease_is_still_older_than_its_successor(backend: Backend) {
    let proxy = Proxy::to(backend.address()).await;
    let crash = Tasks::new(tokio::runtime::Handle::current());
    let first = join_with(&crash, "shop-0", "first", proxy.address);
    is(&first.registered, true, "the first").await;
    proxy.cut();
    let mut client = backend.client().await;
    keys_become(&mut client, 0).await;
    let second = join("shop-0", "second", backend.address());
    is(&second.registered, true, "the second").await;

    let restarted = join("shop-0", "first", backend.address());
    is(&restarted.superseded, true, "superseded").await;
    // The process that was cut off finds out as well.
    proxy.restore();
    is(&first.superseded, true, "superseded").await;
    assert!(*second.registered.borrow() && holds("second")(&second.views.borrow()));
    drop(crash);
}

/// After the registry lost the succession, the older pod is the first to write one.
async fn a_newer_pod_keeps_its_name_when_the_succession_is_lost(mut backend: Backend) {
    let second = join("shop-0", "second", backend.address());
    is(&second.registered, true, "the second").await;
    backend.rebuild().await;
    let mut client = backend.client().await;
    keys_become(&mut client, 1).await;
    let succession = client.get(keys().succession("shop-0"), None).await.expect("up");
    assert!(succession.kvs().is_empty(), "a key without a lease would outlive its cluster");

    let restarted = join("shop-0", "first", backend.address());
    is(&restarted.superseded, true, "superseded").await;
    until(&second.views, "its own key", holds("second")).await;
    is(&second.registered, true, "the second").await;
    assert!(!*second.superseded.borrow());
}

/// A restarted container has the uid of its pod and takes over the registration of its predecessor
/// at once.
async fn a_restarted_container_registers_again(backend: Backend) {
    let crash = Tasks::new(tokio::runtime::Handle::current());
    let first = join_with(&crash, "shop-0", "uid-0", backend.address());
    is(&first.registered, true, "the first").await;
    crash.stop(PATIENCE).await.expect("its tasks stop");
    let began = Instant::now();
    let again = join("shop-0", "uid-0", backend.address());
    is(&again.registered, true, "registered again").await;
    assert!(began.elapsed() < TTL, "{:?}", began.elapsed());
}

/// A key that is deleted or overwritten by hand is written again.
async fn a_deleted_key_is_written_again(backend: Backend) {
    let member = join("shop-0", "uid-0", backend.address());
    is(&member.registered, true, "registered").await;
    until(&member.views, "itself", |view| view.members.len() == 1).await;
    let mut client = backend.client().await;
    client.delete(keys().member("shop-0"), None).await.expect("up");
    keys_become(&mut client, 1).await;

    let foreign = serde_json::to_vec(&registration("foreign")).expect("plain data");
    let lease = client.lease_grant(60, None).await.expect("up").id();
    let options = PutOptions::new().with_lease(lease);
    client.put(keys().member("shop-0"), foreign, Some(options)).await.expect("up");
    until(&member.views, "the foreign pod", holds("foreign")).await;
    until(&member.views, "its own key", holds("uid-0")).await;
    assert!(*member.registered.borrow() && !*member.superseded.borrow());
}

/// Runs each scenario against the embedded registry, and against etcd if one is configured.
macro_rules! scenarios {
    ($($scenario:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Backend::embedded()).await;
            })*
        }

        mod etcd {
            $(#[tokio::test]
            async fn $scenario() {
                if let Some(etcd) = super::Backend::etcd().await {
                    super::$scenario(etcd).await;
                }
            })*
        }
    };
}

scenarios! {
    members_join_and_leave
    contracts_arrive_within_a_second_and_bad_values_change_nothing
    when_every_lease_is_revoked_the_ring_is_kept_and_all_register_again
    a_cut_watch_resumes_by_revision_and_lists_again_after_a_compaction
    a_silent_registry_is_detected_and_changes_nothing
    a_killed_and_restarted_registry_changes_nothing
    a_rebuilt_empty_registry_is_filled_again
    a_dying_pod_never_removes_its_successor
    a_restarted_older_pod_never_takes_its_successors_key
    a_pod_without_a_lease_is_still_older_than_its_successor
    a_newer_pod_keeps_its_name_when_the_succession_is_lost
    a_restarted_container_registers_again
    a_deleted_key_is_written_again
}
