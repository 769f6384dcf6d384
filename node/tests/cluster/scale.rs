//! Members join and leave while a client that follows the ring reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use larder_client::Client;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::rig::{Cluster, eventually};
use crate::GROUP;

/// Reads per second, and number of keys.
const RATE: u32 = 300;

/// Results of the reads.
#[derive(Debug, Default)]
struct ReadStats {
    reads: usize,
    slowest: Duration,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_or_waits_while_a_member_joins_and_leaves() {
    let mut cluster = Cluster::start(3).await;
    cluster.origin.delay_ms.store(5, Ordering::SeqCst);
    let members = (0..3).map(|member| cluster.addresses(member).grpc.to_string());
    let builder = Client::builder().members(members).refresh_every(Duration::from_secs(1));
    let client = builder.build().expect("valid");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let reader = tokio::spawn(read(client, stop.clone(), asked.clone()));

    cluster.add("shop-3", 8 << 20);
    cluster
        .eventually(Duration::from_secs(10), || async { cluster.ring_of(0).await.len() == 4 })
        .await;
    // The client has the new ring only once it reads from the new member.
    let served = || async {
        let hits = cluster.metric(3, r#"larder_gets_total{group="students",result="hit_local"}"#);
        hits.await.is_some_and(|hits| hits > 100.0)
    };
    eventually(Duration::from_secs(20), served).await;
    assert!(cluster.take(3).drain().await, "nothing is cut short");
    cluster
        .eventually(Duration::from_secs(10), || async { cluster.ring_of(0).await.len() == 3 })
        .await;
    let leave = asked.load(Ordering::Relaxed);
    let more = || async { asked.load(Ordering::Relaxed) > leave + RATE / 2 };
    eventually(Duration::from_secs(10), more).await;

    stop.store(true, Ordering::Relaxed);
    let stats = reader.await.expect("no panic");
    assert_eq!(stats.failures, Vec::<String>::new());
    assert!(stats.reads > 500 && stats.slowest < Duration::from_secs(1), "{stats:?}");
    cluster.stop().await;
}

async fn read(client: Client, stop: Arc<AtomicBool>, asked: Arc<AtomicU32>) -> ReadStats {
    let mut pace = interval(Duration::from_secs(1) / RATE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut running, mut stats) = (JoinSet::new(), ReadStats::default());
    for number in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        pace.tick().await;
        asked.store(number, Ordering::Relaxed);
        let client = client.clone();
        running.spawn(async move {
            let asked = Instant::now();
            let answer = client.get(GROUP, format!("student{}", number % RATE)).await;
            (asked.elapsed(), answer.err().map(|error| format!("{error:?}")))
        });
    }
    for (took, failure) in running.join_all().await {
        stats.reads += 1;
        stats.slowest = stats.slowest.max(took);
        stats.failures.extend(failure);
    }
    stats
}
