//! R3 and R6: a member that stops answering while others serve.

use std::time::{Duration, Instant};

use super::figures::{ms, record, seconds};
use super::load::{Choice, Load, Reader, Window};
use super::rig::{BASE, Rig, SHORT_LEASE, Setup, assert_no_failures};
use super::shared::until;
use super::watch::metric;

/// By then reads of a dead member's keys are as fast as before.
const BYPASSED: Duration = Duration::from_secs(2);
/// Reads may fail for so long after a member was killed.
const ERRORS_END: Duration = Duration::from_millis(500);
/// So few that the member's stand-in has loaded each of them before the latencies are compared.
const HOT_KEYS: u32 = 60;
const READS_PER_SECOND: u32 = 200;
/// Members that clients stay connected to.
const OTHERS: [usize; 2] = [0, 1];
/// The member that fails.
const VICTIM: usize = 2;

fn load(readers: Vec<Reader>) -> Load {
    Load::start(readers, READS_PER_SECOND, Choice::Among(HOT_KEYS))
}

fn is_owned(rig: &Rig, key: u32) -> bool {
    rig.owners[key as usize] == rig.members[VICTIM].name
}

/// p99 of one client's reads of the victim's keys before the fault and once it is bypassed, and of
/// all clients' reads of other keys at that later time.
struct Change {
    base: Duration,
    later: Duration,
    control: Duration,
}

impl Change {
    fn of<const N: usize>(
        rig: &Rig,
        clients: [&Window; N],
        (fault, bypassed, end): (Instant, Instant, Instant),
    ) -> [Self; N] {
        let others = clients.map(|reads| reads.of(|key| !is_owned(rig, key)));
        let slow = others.map(|reads| reads.between(bypassed, end).quantile(0.99));
        let control = slow.into_iter().max().expect("a client");
        clients.map(|reads| {
            let own = reads.of(|key| is_owned(rig, key));
            Self {
                base: own.between(fault - BASE, fault).quantile(0.99),
                later: own.between(bypassed, end).quantile(0.99),
                control,
            }
        })
    }

    /// "At its base" within what a second of reads can show: twice as slow, or slower by a turn of
    /// the scheduler. Anything else that runs on the machine delays the control too. A base that
    /// was measured during a stall of the machine shows nothing. A member that is not bypassed
    /// costs 500 ms.
    fn is_at_base(&self) -> bool {
        const STALL: Duration = Duration::from_millis(50);
        const TURN: Duration = Duration::from_millis(20);
        let base = if self.base < STALL { self.base.max(self.control) } else { self.control };
        self.later <= (2 * base).max(base + TURN)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [base, later, control] = [self.base, self.later, self.control].map(ms);
        write!(f, "{base} before, {later} bypassed (other keys {control})")
    }
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
    let [stock, larder] = [rig.stock(&OTHERS), rig.larder()].map(load);
    stock.run_for(2 * BASE).await;

    let frozen = Instant::now();
    rig.members[VICTIM].freeze();
    stock.run_for(BYPASSED + BASE).await;
    let thawed = Instant::now();
    let before = answers_of_victim(&rig).await;
    rig.members[VICTIM].thaw();
    let again = || async { answers_of_victim(&rig).await > before };
    until(Duration::from_secs(5), "the member is used again", again).await;
    let used = thawed.elapsed();

    let (stock, larder) = (stock.stop().await, larder.stop().await);
    let probes = rig.check_probes();
    let times = (frozen, frozen + BYPASSED, thawed);
    let [change, larder_change] = Change::of(&rig, [&stock, &larder], times);
    let slowest = stock.between(frozen, thawed).quantile(1.0);
    record(
        "R3",
        "1 of 3 members stopped for 3 s",
        &[
            ("reads", (stock.reads().len() + larder.reads().len()).to_string()),
            ("failed", (stock.failures().count() + larder.failures().count()).to_string()),
            ("past deadline", (stock.late() + larder.late()).to_string()),
            ("p99 of its keys", change.to_string()),
            ("Rust client's p99", larder_change.to_string()),
            ("slowest", ms(slowest)),
            ("used again after", seconds(used)),
            ("probes", format!("0 of {probes} failed")),
        ],
    );
    assert_no_failures(&stock);
    assert_no_failures(&larder);
    assert_eq!((stock.late(), larder.late()), (0, 0), "reads past their deadline");
    assert!(change.is_at_base(), "p99 {change}\n{}", stock.by_second());
    assert!(larder_change.is_at_base(), "p99 {larder_change}\n{}", larder.by_second());
}

/// R6, as far as processes on one machine show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_end_within_half_a_second_after_a_member_was_killed() {
    let Some(mut rig) = Rig::start(Setup::default()).await else { return };
    let [stock, larder] = [rig.stock(&OTHERS), rig.larder()].map(load);
    stock.run_for(2 * BASE).await;

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
    stock.run_for(BASE / 2).await;

    let (stock, larder) = (stock.stop().await, larder.stop().await);
    let probes = rig.check_probes();
    let last_error = |reads: &Window| {
        let ends = reads.failures().map(|read| (read.due + read.took).duration_since(killed));
        ends.max().unwrap_or_default()
    };
    let (last_stock, last_larder) = (last_error(&stock), last_error(&larder));
    let [change] = Change::of(&rig, [&stock], (killed, killed + ERRORS_END, killed + left));
    record(
        "R6",
        "1 of 3 members killed",
        &[
            ("reads", (stock.reads().len() + larder.reads().len()).to_string()),
            ("failed", (stock.failures().count() + larder.failures().count()).to_string()),
            ("last error after", format!("{}, Rust client {}", ms(last_stock), ms(last_larder))),
            ("p99 of its keys", change.to_string()),
            ("out of the ring after", seconds(left)),
            ("probes", format!("0 of {probes} failed")),
        ],
    );
    assert!(last_stock <= ERRORS_END, "{}", stock.by_second());
    assert!(last_larder <= ERRORS_END, "{}", larder.by_second());
}
