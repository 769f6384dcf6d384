//! R3 and R6: a member that stops answering while others serve.

use std::time::{Duration, Instant};

use super::figures::{ms, record, seconds};
use super::load::Window;
use super::rig::{BASE, Rig, SHORT_LEASE, Setup, assert_no_failures, until};
use super::watch::metric;

/// By then reads of a dead member's keys are as fast as before.
const BYPASSED: Duration = Duration::from_secs(2);
/// Reads may fail for so long after a member was killed.
const ERRORS_END: Duration = Duration::from_millis(500);
/// Members that clients stay connected to.
const OTHERS: [usize; 2] = [0, 1];
/// The member that fails.
const VICTIM: usize = 2;

/// "At its base" within what a second of reads can show: twice as slow, or slower by the tick of
/// a timer and a batch.
fn is_at_base(p99: Duration, base: Duration) -> bool {
    p99 <= (2 * base).max(base + Duration::from_millis(5))
}

fn owned(rig: &Rig, reads: &Window) -> Window {
    reads.of(|key| rig.owners[key as usize] == rig.members[VICTIM].name)
}

/// Batches that the member answered to the others.
async fn answers_of_victim(rig: &Rig) -> f64 {
    let name = &rig.members[VICTIM].name;
    let series = format!("larder_peer_requests_total{{code=\"ok\",peer=\"{name}\"}} ");
    let mut answers = 0.0;
    for member in OTHERS {
        answers += metric(rig.members[member].admin, &series).await.expect("metrics");
    }
    answers
}

/// R3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_with_a_live_lease_is_bypassed_and_used_again_when_it_resumes() {
    let setup = Setup { lease_ttl: Duration::from_secs(60), alone: true, ..Setup::default() };
    let Some(rig) = Rig::start(setup).await else { return };
    let (stock, larder) = (rig.load_on(&OTHERS), rig.load_by_larder_client());
    tokio::time::sleep(2 * BASE).await;

    let frozen = Instant::now();
    rig.members[VICTIM].freeze();
    tokio::time::sleep(2 * BYPASSED).await;
    let thawed = Instant::now();
    let before = answers_of_victim(&rig).await;
    rig.members[VICTIM].thaw();
    let again = || async { answers_of_victim(&rig).await > before };
    until(Duration::from_secs(5), "the member is used again", again).await;
    let used = thawed.elapsed();

    let (stock, larder) = (stock.stop().await, larder.stop().await);
    let probes = rig.check_probes();
    let base = owned(&rig, &stock).between(frozen - BASE, frozen).quantile(0.99);
    let later = owned(&rig, &stock).between(frozen + BYPASSED, thawed).quantile(0.99);
    let slowest = stock.between(frozen, thawed).quantile(1.0);
    let larder_base = larder.between(frozen - BASE, frozen).quantile(0.99);
    let larder_later = larder.between(frozen + BYPASSED, thawed).quantile(0.99);
    record(
        "R3",
        "1 of 3 members stopped for 4 s",
        &[
            ("reads", (stock.reads().len() + larder.reads().len()).to_string()),
            ("failed", (stock.failures().count() + larder.failures().count()).to_string()),
            ("past deadline", (stock.late() + larder.late()).to_string()),
            ("p99 of its keys", format!("{} before, {} after 2 s", ms(base), ms(later))),
            ("slowest", ms(slowest)),
            (
                "Rust client p99",
                format!("{} before, {} after 2 s", ms(larder_base), ms(larder_later)),
            ),
            ("used again after", seconds(used)),
            ("probes", format!("0 of {probes} failed")),
        ],
    );
    assert_no_failures(&stock);
    assert_no_failures(&larder);
    assert_eq!((stock.late(), larder.late()), (0, 0), "reads past their deadline");
    assert!(is_at_base(later, base), "p99 from {base:?} to {later:?}\n{}", stock.by_second());
    assert!(
        is_at_base(larder_later, larder_base),
        "p99 of the Rust client from {larder_base:?} to {larder_later:?}\n{}",
        larder.by_second()
    );
}

/// R6, as far as processes on one machine show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_end_within_half_a_second_after_a_member_was_killed() {
    let setup = Setup { alone: true, ..Setup::default() };
    let Some(mut rig) = Rig::start(setup).await else { return };
    let (stock, larder) = (rig.load_on(&OTHERS), rig.load_by_larder_client());
    tokio::time::sleep(BASE).await;

    let killed = Instant::now();
    rig.members[VICTIM].kill();
    let ring_without = || async {
        OTHERS.iter().all(|member| {
            rig.members[*member].watch.last().is_some_and(|sample| sample.ring_members == 2)
        })
    };
    // etcd looks for expired leases twice a second.
    let limit = SHORT_LEASE + Duration::from_secs(1);
    until(limit, "the killed member leaves the ring", ring_without).await;
    let left = killed.elapsed();
    tokio::time::sleep(BASE).await;

    let (stock, larder) = (stock.stop().await, larder.stop().await);
    let probes = rig.check_probes();
    let last_error = |reads: &Window| {
        let ends = reads.failures().map(|read| (read.due + read.took).duration_since(killed));
        ends.max().unwrap_or_default()
    };
    let (last_stock, last_larder) = (last_error(&stock), last_error(&larder));
    let base = owned(&rig, &stock).between(killed - BASE, killed).quantile(0.99);
    let later = owned(&rig, &stock).between(killed + ERRORS_END, killed + left).quantile(0.99);
    record(
        "R6",
        "1 of 3 members killed",
        &[
            ("reads", (stock.reads().len() + larder.reads().len()).to_string()),
            ("failed", (stock.failures().count() + larder.failures().count()).to_string()),
            ("last error after", format!("{}, Rust client {}", ms(last_stock), ms(last_larder))),
            ("p99 of its keys", format!("{} before, {} after 0.5 s", ms(base), ms(later))),
            ("out of the ring after", seconds(left)),
            ("probes", format!("0 of {probes} failed")),
        ],
    );
    assert!(last_stock <= ERRORS_END, "{}", stock.by_second());
    assert!(last_larder <= ERRORS_END, "{}", larder.by_second());
}
