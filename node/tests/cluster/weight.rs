//! The weight of a member follows the memory limit of its container, which is resized in place.

use std::path::Path;
use std::time::Duration;

use larder_proto::v1::RingRequest;
use larder_proto::v1::admin_client::AdminClient;

use super::rig::{CAPACITY_BYTES, Cluster, MEMORY_BYTES};
use super::warm::{KEYS, MOST_LOADS, let_entries_live, read_all};

const LONG: Duration = Duration::from_secs(30);

fn set_limit(file: &Path, bytes: u64) {
    // As one step, as the kernel does.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{bytes}\n")).expect("written");
    std::fs::rename(&new, file).expect("renamed");
}

/// The weights of the members in one member's ring, in the order of their names.
async fn weights(cluster: &Cluster, member: usize) -> Vec<u32> {
    let ring = AdminClient::new(cluster.channel(member)).ring(RingRequest {}).await;
    ring.expect("a ring").into_inner().members.iter().map(|member| member.weight).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_more_memory_gets_more_keys_without_a_restart_and_without_loads() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("memory.max");
    set_limit(&file, MEMORY_BYTES);
    let mut cluster = Cluster::start(2).await;
    cluster.memory_limit = Some(file.clone());
    cluster.add("shop-2", CAPACITY_BYTES);
    cluster.whole().await;
    let_entries_live(&cluster, 3).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let (loads, entries) = (cluster.origin.loads().0, cluster.cache(2).report()[1].main.entries);
    assert_eq!(weights(&cluster, 0).await, [8, 8, 8]);

    set_limit(&file, MEMORY_BYTES + (20 << 20));
    for member in 0..3 {
        cluster.eventually(LONG, || async { weights(&cluster, member).await == [8, 8, 23] }).await;
    }
    assert!(cluster.cache(2).capacity_bytes().abs_diff(24 << 20) < 1 << 20);
    let moved = || async { cluster.cache(2).report()[1].main.entries > entries * 3 / 2 };
    cluster.eventually(LONG, moved).await;
    read_all(&cluster, &[0, 1, 2]).await;
    let more = cluster.origin.loads().0 - loads;
    println!("{entries} entries before, {} after", cluster.cache(2).report()[1].main.entries);
    assert!(more <= MOST_LOADS, "{more} of {KEYS} keys loaded again");

    set_limit(&file, MEMORY_BYTES);
    for member in 0..3 {
        cluster.eventually(LONG, || async { weights(&cluster, member).await == [8, 8, 8] }).await;
    }
    assert!(cluster.cache(2).capacity_bytes().abs_diff(CAPACITY_BYTES) < 1 << 20);
    cluster.stop().await;
}
