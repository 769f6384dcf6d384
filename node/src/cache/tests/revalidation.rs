//! A hot key that expires within stale-while-revalidate: no read waits, and one load replaces it.

use larder_proto::v1::StaleReason;

use super::*;

/// Reads that must not wait.
fn read_at_once(cache: &Cache) -> Answer {
    match cache.get("g", b"k", Caller::Application) {
        Lookup::Done(answer) => answer.expect("an answer"),
        Lookup::Wait(_) => panic!("a read waits for the load"),
    }
}

#[tokio::test(start_paused = true)]
async fn at_5_000_reads_a_second_an_expiring_key_is_loaded_once_and_no_read_waits() {
    const READS_PER_MS: usize = 5;
    let rig = plain();
    rig.text("k").await;
    let mut stale = 0;
    for _ in 0..3_500 {
        sleep(Duration::from_millis(1)).await;
        stale += (0..READS_PER_MS).filter(|_| read_at_once(&rig.cache).is_stale()).count();
    }
    // It lives for a second and takes 20 ms to load.
    assert_eq!(rig.loads(), 1 + 3, "one load each time that it expires");
    assert!((3 * 95..=3 * 110).contains(&stale), "{stale} stale answers, 20 ms each time");
}

/// On several threads at once: the reload takes as long as all of the reads together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_reads_of_an_expired_key_start_one_load_and_none_waits() {
    const THREADS: usize = 4;
    const READS: usize = 5_000;
    const LONG: Freshness =
        Freshness { ttl_ms: 1, stale_while_revalidate_ms: 600_000, ..FRESHNESS };
    let rig = rig(LONG, Limits::default(), Duration::ZERO);
    rig.text("k").await;
    rig.set_origin(Behaviour::Hangs);
    sleep(Duration::from_millis(5)).await;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let cache = rig.cache.clone();
            tokio::task::spawn_blocking(move || {
                (0..READS).map(|_| read_at_once(&cache).stale_reason).collect::<Vec<_>>()
            })
        })
        .collect();
    for reads in futures::future::join_all(threads).await {
        let reads = reads.expect("no read waits");
        assert!(reads.iter().all(|reason| *reason == StaleReason::Revalidating));
    }
    assert!(rig.loads() <= 2, "{} loads", rig.loads());
}
