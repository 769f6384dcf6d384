//! A member whose process is stopped while its lease lives.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_proto::v1::InvalidateRequest;

use super::rig::{Cluster, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_is_bypassed_and_drops_what_it_missed_when_it_resumes() {
    let cluster = Cluster::start_without_copies(2).await;
    let origin = cluster.serve_http_origin().await;
    cluster.put_group("pages", &format!("{origin}/count/{{key}}"), 600_000).await;
    let process = cluster.start_process("shop-2").await;
    let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    for key in &keys {
        get(cluster.client(0), "pages", key).await.expect("a value");
    }
    let owned = {
        let mut owned = Vec::new();
        for key in &keys {
            if cluster.owner("pages", key).await == "shop-2" {
                owned.push(key.clone());
            }
        }
        owned
    };
    assert!(owned.len() > 5, "a third of {}, not {}", keys.len(), owned.len());
    let before = get(process.client(), "pages", &owned[0]).await.expect("a value").value;

    process.freeze();
    // Slow reads of its keys and, as the measure of how busy the machine is, of other keys.
    let (mut late, mut late_others) = (0, 0);
    let (mut slowest, frozen) = (Duration::ZERO, Instant::now());
    while frozen.elapsed() < Duration::from_millis(1_500) {
        for key in &keys {
            let began = Instant::now();
            get(cluster.client(1), "pages", key).await.expect("reads continue");
            slowest = slowest.max(began.elapsed());
            if began.elapsed() > Duration::from_millis(200) {
                *if owned.contains(key) { &mut late } else { &mut late_others } += 1;
            }
        }
    }
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    let limit = 2 + late_others;
    assert!(late <= limit, "{late} reads waited for the frozen member, {late_others} others");

    let key = Bytes::from(owned[0].clone());
    let request = InvalidateRequest { group: "pages".into(), keys: vec![key], tags: Vec::new() };
    let done = cluster.client(0).invalidate(request).await.expect("done").into_inner();
    assert_eq!((done.members_reached, done.members_total), (2, 3));
    process.thaw();
    let dropped = || async {
        let answer = get(process.client(), "pages", &owned[0]).await;
        answer.is_ok_and(|answer| answer.value != before)
    };
    eventually(Duration::from_secs(10), dropped).await;
    assert_eq!(process.terminate().await, Some(0), "a clean drain");
    let left = || async { cluster.ring_of(0).await.len() == 2 };
    cluster.eventually(Duration::from_secs(1), left).await;
    cluster.stop().await;
}
