//! Members that restart in place with a snapshot on disk. A member that is dropped without a drain
//! ends as in a crash.

use std::path::PathBuf;
use std::time::Duration;

use larder_proto::v1::{GetManyRequest, InvalidateRequest};

use super::rig::{Cluster, get};
use crate::GROUP;

const KEYS: usize = 60;

fn key(n: usize) -> String {
    format!("k{n:02}")
}

impl Cluster {
    /// A folder with the files of one member.
    fn folder(&self, member: usize) -> PathBuf {
        self.snapshots.as_ref().expect("snapshots").path().join(format!("shop-{member}"))
    }

    /// Loads every key, then waits until all owners have written it. Returns keys of each member.
    async fn loaded_and_written(&self, members: usize) -> Vec<Vec<String>> {
        let mut keys = vec![Vec::new(); members];
        for key in (0..KEYS).map(key) {
            get(self.client(0), GROUP, &key).await.expect("a value");
            let owner = self.owner(GROUP, &key).await;
            keys[owner
                .strip_prefix("shop-")
                .expect("a member")
                .parse::<usize>()
                .expect("a number")]
            .push(key);
        }
        for (member, keys) in keys.iter().enumerate() {
            let file = self.folder(member).join("snapshot");
            let written = || async {
                let text = std::fs::read(&file).unwrap_or_default();
                keys.iter()
                    .all(|key| text.windows(5).any(|found| found == format!("{key} 1").as_bytes()))
            };
            self.eventually(Duration::from_secs(10), written).await;
        }
        keys
    }

    /// Waits until every member knows a group.
    async fn know_group(&self, group: &str) {
        for member in 0..2 {
            let known = || async { get(self.client(member), group, "any").await.is_ok() };
            self.eventually(Duration::from_secs(5), known).await;
        }
    }

    async fn invalidate(&self, member: usize, key: &str) -> (u32, u32) {
        let keys = vec![key.to_owned().into()];
        let request = InvalidateRequest { group: GROUP.into(), keys, tags: Vec::new() };
        let done = self.client(member).invalidate(request).await.expect("done").into_inner();
        (done.members_reached, done.members_total)
    }

    /// The value of each key at one member, which asks the owners.
    async fn read(&self, member: usize, keys: &[String]) -> Vec<String> {
        let keys = keys.iter().map(|key| key.clone().into()).collect();
        let request = GetManyRequest { group: GROUP.into(), keys, explain: false };
        let answers = self.client(member).get_many(request).await.expect("answers").into_inner();
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
        answers.results.iter().map(|result| text(&result.value)).collect()
    }

    async fn all_loads(&self) -> usize {
        self.origin.loads().0
    }
}

/// Checks that the values were loaded once, and those of the invalidated keys twice. A key that shares
/// a slot of the fences with an invalidated one may have been loaded again.
fn assert_restored(values: &[String], invalidated: &[&String]) {
    let again: Vec<_> = values.iter().filter(|value| !value.ends_with(" 1")).collect();
    for key in invalidated {
        assert!(again.contains(&&format!("{key} 2")), "{key}: {values:?}");
    }
    assert!(again.len() <= 2 * invalidated.len(), "not restored: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_crashed_serves_its_entries_again() {
    let mut cluster = Cluster::start_with_snapshots(3).await;
    let keys = cluster.loaded_and_written(3).await;
    cluster.crash(1);
    cluster.restart(1);
    cluster.whole().await;
    let values = cluster.read(1, &keys[1]).await;
    assert!(values.iter().all(|value| value.ends_with(" 1")), "{values:?}");
    assert_eq!(cluster.all_loads().await, KEYS);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_invalidated_while_a_member_was_away_does_not_come_back() {
    let mut cluster = Cluster::start_with_snapshots(3).await;
    let keys = cluster.loaded_and_written(3).await;
    let (own, other) = (&keys[1][0], &keys[1][1]);
    // Confirmed by all, and in no snapshot.
    assert_eq!(cluster.invalidate(1, own).await, (3, 3));
    cluster.crash(1);
    cluster.invalidate(0, other).await;
    cluster.restart(1);
    cluster.whole().await;
    assert_restored(&cluster.read(1, &keys[1]).await, &[own, other]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_whose_log_is_lost_does_not_come_back() {
    let mut cluster = Cluster::start_with_snapshots(3).await;
    let keys = cluster.loaded_and_written(3).await;
    let lost = &keys[1][0];
    cluster.take(1).drain().await;
    cluster.invalidate(0, lost).await;
    cluster.crash(0);
    std::fs::remove_dir_all(cluster.folder(0)).expect("there");
    cluster.restart(0);
    cluster.restart(1);
    cluster.whole().await;
    assert_eq!(cluster.read(1, std::slice::from_ref(lost)).await, [format!("{lost} 2")]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_down_and_up_again_serve_what_they_had() {
    let mut cluster = Cluster::start_with_snapshots(3).await;
    let keys = cluster.loaded_and_written(3).await;
    assert_eq!(cluster.invalidate(2, &keys[0][0]).await, (3, 3));
    (0..3).for_each(|member| cluster.crash(member));
    (0..3).for_each(|member| cluster.restart(member));
    cluster.whole().await;
    assert_restored(&cluster.read(0, &keys.concat()).await, &[&keys[0][0]]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_members_serve_what_they_had_and_nothing_that_expired() {
    let mut cluster = Cluster::start_with_snapshots(1).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("short", &format!("{origin}/count/{{key}}"), 1_500).await;
    cluster.put_group("long", &format!("{origin}/count/{{key}}"), 60_000).await;
    let read = async |cluster: &Cluster, group| get(cluster.client(0), group, "k").await;
    for group in ["short", "long"] {
        cluster
            .eventually(Duration::from_secs(2), || async { read(&cluster, group).await.is_ok() })
            .await;
    }
    let short = read(&cluster, "short").await.expect("a value").value;
    let long = read(&cluster, "long").await.expect("a value").value;
    assert!(cluster.take(0).drain().await);
    // Time on the machine's clock is what this is about.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.restart(0);
    cluster.whole().await;
    assert_ne!(read(&cluster, "short").await.expect("a value").value, short);
    assert_eq!(read(&cluster, "long").await.expect("a value").value, long);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_right_after_an_invalidation_restores_everything_else() {
    let cluster = Cluster::start_with_snapshots(2).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("pages", &format!("{origin}/count/{{key}}"), 60_000).await;
    cluster.know_group("pages").await;
    let process = cluster.start_process("shop-2").await;
    process.ready().await;
    let view = |process: &super::rig::Process| {
        let client = process.client();
        async move {
            let mut values = Vec::new();
            for key in (0..KEYS).map(key) {
                values.push(get(client.clone(), "pages", &key).await.expect("a value").value);
            }
            values
        }
    };
    let before = view(&process).await;
    let own: Vec<usize> = {
        let cache = cluster.cache(0);
        let mut own = Vec::new();
        for n in 0..KEYS {
            let answer = cache.read("pages", key(n).as_bytes()).await.expect("an answer");
            if cache.explain("pages", key(n).as_bytes(), &answer).owner == "shop-2" {
                own.push(n);
            }
        }
        own
    };
    let file = cluster.snapshots.as_ref().expect("snapshots").path().join("shop-2/snapshot");
    let written = || async {
        let text = std::fs::read(&file).unwrap_or_default();
        own.iter().all(|n| {
            let value = &before[*n];
            // "count 1" is not "count 12".
            text.windows(value.len() + 1)
                .any(|found| found.starts_with(value) && !found[value.len()].is_ascii_digit())
        })
    };
    cluster.eventually(Duration::from_secs(10), written).await;
    let keys = vec![key(own[0]).into()];
    let request = InvalidateRequest { group: "pages".into(), keys, tags: Vec::new() };
    let done = process.client().invalidate(request).await.expect("done").into_inner();
    assert_eq!((done.members_reached, done.members_total), (3, 3));
    process.kill().await;
    let process = cluster.start_process("shop-2").await;
    process.ready().await;
    let after = view(&process).await;
    let changed: Vec<_> = own.iter().filter(|n| before[**n] != after[**n]).collect();
    assert_eq!(changed, [&own[0]]);
    assert_eq!(process.terminate().await, Some(0));
    cluster.stop().await;
}

/// One series of the first member's snapshots.
async fn snapshot_metric(cluster: &Cluster, series: &str) -> f64 {
    cluster.metric(0, &format!("larder_snapshot_{series}")).await.expect("a metric")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_a_snapshot_and_no_invalidation() {
    // Every write to this device fails for lack of space.
    let fill = |path: PathBuf| {
        _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/full", path).expect("linked");
    };
    let mut cluster = Cluster::start_with_snapshots(1).await;
    let keys = cluster.loaded_and_written(1).await.remove(0);
    let folder = cluster.folder(0);
    for operation in ["write", "journal"] {
        match operation {
            "write" => fill(folder.join("snapshot.new")),
            _ => (1..200).for_each(|number| fill(folder.join(format!("journal.{number}")))),
        }
        let series = format!("errors_total{{operation=\"{operation}\"}}");
        let failed = async || {
            // A change, so that another snapshot is due.
            assert_eq!(cluster.invalidate(0, &keys[0]).await, (1, 1), "{operation}");
            snapshot_metric(&cluster, &series).await >= 1.0
        };
        cluster.eventually(Duration::from_secs(20), || async { failed().await }).await;
    }
    assert_eq!(cluster.read(0, &keys[1..2]).await, [format!("{} 1", keys[1])]);

    // There is room again.
    get(cluster.client(0), GROUP, "later").await.expect("a value");
    let file = folder.join("snapshot");
    let written = || async {
        String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).contains("later 1")
    };
    cluster.eventually(Duration::from_secs(20), written).await;
    let bytes = snapshot_metric(&cluster, "bytes").await;
    assert!(bytes > 1_000.0, "{bytes} bytes");
    let age = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64()
        - snapshot_metric(&cluster, "written_timestamp_seconds").await;
    assert!((-1.0..60.0).contains(&age), "{age} s");

    cluster.crash(0);
    cluster.restart(0);
    cluster.whole().await;
    assert!(snapshot_metric(&cluster, "restored_entries_total").await >= (KEYS - 1) as f64);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_cost_their_entries_and_nothing_else() {
    for damage in ["torn", "foreign", "damaged", "no journal", "a file in the way"] {
        let mut cluster = Cluster::start_with_snapshots(1).await;
        let keys = cluster.loaded_and_written(1).await.remove(0);
        cluster.crash(0);
        let folder = cluster.folder(0);
        let file = folder.join("snapshot");
        let mut bytes = std::fs::read(&file).expect("written");
        match damage {
            "torn" => bytes.truncate(bytes.len() - 5),
            "foreign" => bytes[0] ^= 1,
            "damaged" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            _ => {}
        }
        std::fs::write(&file, &bytes).expect("written");
        match damage {
            "no journal" => {
                for entry in std::fs::read_dir(&folder).expect("there").flatten() {
                    if entry.file_name().to_str().expect("text").starts_with("journal.") {
                        std::fs::remove_file(entry.path()).expect("there");
                    }
                }
            }
            "a file in the way" => {
                std::fs::remove_dir_all(&folder).expect("there");
                std::fs::write(&folder, "").expect("written");
            }
            _ => {}
        }
        cluster.restart(0);
        cluster.whole().await;
        let values = cluster.read(0, &keys).await;
        let is_cold = values.iter().all(|value| value.ends_with(" 2"));
        // Only the frame that marks the end was cut.
        assert_eq!(is_cold, damage != "torn", "{damage}: {values:?}");
        assert_eq!(cluster.invalidate(0, &keys[0]).await, (1, 1), "{damage}");
        cluster.stop().await;
    }
}
