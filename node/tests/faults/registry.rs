//! R4: etcd is away, wrong, or loses its leader. Reads never depend on it.

use std::time::{Duration, Instant};

use super::figures::{note, seconds};
use super::load::Load;
use super::member::Member;
use super::proxy::Proxy;
use super::rig::{BASE, Rig, SHORT_LEASE, Setup, minutes};

/// How often a watch checks that its registry is alive.
const HEARTBEAT: Duration = SHORT_LEASE.checked_div(3).expect("not zero");
const NOTICE_LIMIT: Duration = HEARTBEAT.saturating_mul(2);
const CONVERGE_LIMIT: Duration = Duration::from_secs(SHORT_LEASE.as_secs() + 2);

/// What happens to all of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// SIGKILL, and a start with the same data.
    Killed,
    /// SIGSTOP, and SIGCONT.
    Frozen,
    /// Connections stay open and pass no bytes, so the leases expire unseen.
    BlackHoled,
    /// Members are cut off, and what they missed is compacted.
    Compacted,
}

fn leader_kills() -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes")]
    minutes().map_or(2, |minutes| (2.0 * minutes).ceil() as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_while_etcd_is_killed() {
    outage(Outage::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_while_etcd_is_frozen() {
    outage(Outage::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_while_etcd_is_black_holed() {
    outage(Outage::BlackHoled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_when_etcd_compacts_what_members_missed() {
    outage(Outage::Compacted).await;
}

impl Outage {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "etcd killed",
            Self::Frozen => "etcd stopped",
            Self::BlackHoled => "etcd black-holed",
            Self::Compacted => "etcd cut off and compacted",
        }
    }

    /// Longer than a lease, except where no lease is to expire.
    fn time(self) -> Duration {
        let short = if self == Self::Compacted { BASE } else { SHORT_LEASE + BASE };
        minutes().map_or(short, |minutes| Duration::from_secs_f64(60.0 * minutes))
    }

    fn begin(self, rig: &mut Rig) {
        match self {
            Self::Killed => rig.etcd.kill_all(),
            Self::Frozen => rig.etcd.freeze_all(),
            Self::BlackHoled => proxies(rig).for_each(Proxy::freeze),
            Self::Compacted => proxies(rig).for_each(Proxy::cut),
        }
    }

    /// Returns once etcd serves again.
    async fn end(self, rig: &mut Rig) {
        match self {
            Self::Killed => rig.etcd.restart_killed(),
            Self::Frozen => rig.etcd.thaw_all(),
            Self::BlackHoled => proxies(rig).for_each(Proxy::restore),
            Self::Compacted => {
                let mut client = rig.etcd.client().await;
                let put = client.put("elsewhere", "x", None).await.expect("etcd runs");
                let revision = put.header().expect("a header").revision();
                client.compact(revision, None).await.expect("etcd runs");
                proxies(rig).for_each(Proxy::restore);
            }
        }
        rig.etcd.serving().await;
    }
}

async fn outage(fault: Outage) {
    let Some(mut rig) = Rig::start(Setup::default()).await else { return };
    let (loads, load) = (rig.origin.loads(), rig.load());
    load.run_for(BASE).await;

    let began = Instant::now();
    fault.begin(&mut rig);
    wait(&rig, fault.time(), &load, fault.name()).await;
    let noticed = rig.members.iter().map(|member| noticed(member, began)).max();
    let noticed = noticed.expect("three members");
    fault.end(&mut rig).await;
    let converged = rig.converged(2 * CONVERGE_LIMIT).await;
    load.run_for(BASE).await;

    let reads = load.stop().await;
    let figures = [
        ("away", seconds(fault.time())),
        ("noticed after", seconds(noticed)),
        ("converged after", seconds(converged)),
    ];
    rig.conclude(("R4", fault.name()), &reads, (began, loads), &figures);
    assert!(noticed <= NOTICE_LIMIT, "noticed after {noticed:?}");
    assert!(converged <= CONVERGE_LIMIT, "converged after {converged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_while_etcd_loses_its_leader_again_and_again() {
    let Some(mut rig) = Rig::start(Setup::default()).await else { return };
    let (loads, load) = (rig.origin.loads(), rig.load());
    load.run_for(BASE).await;

    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for kill in 0..leader_kills() {
        let leader = rig.etcd.leader().await;
        rig.etcd.kill(leader);
        rig.etcd.leader().await;
        let converged = rig.converged(2 * CONVERGE_LIMIT).await;
        slowest = slowest.max(converged);
        rig.etcd.restart_killed();
        rig.etcd.serving().await;
        if minutes().is_some() {
            note(&format!("leader {} of {} killed\n", kill + 1, leader_kills()));
        }
    }
    rig.converged(CONVERGE_LIMIT).await;

    let reads = load.stop().await;
    let figures = [
        ("kills", leader_kills().to_string()),
        ("converged after each election within", seconds(slowest)),
    ];
    rig.conclude(("R4", "etcd's leader killed"), &reads, (began, loads), &figures);
    assert!(slowest <= CONVERGE_LIMIT, "converged after {slowest:?}");
}

fn proxies(rig: &Rig) -> impl Iterator<Item = &Proxy> {
    rig.members.iter().flat_map(|member| &member.proxies)
}

/// How long a member's metric showed a connection: the start of the last scrape that did.
fn noticed(member: &Member, since: Instant) -> Duration {
    let samples = member.watch.samples_since(since);
    assert!(samples.iter().any(|s| !s.connected), "{} notices the loss", member.name);
    let connected = samples.iter().take_while(|sample| sample.connected).last();
    connected.map_or(Duration::ZERO, |sample| sample.at - since)
}

/// Lets reads go on; in the long form with a line of progress now and then.
async fn wait(rig: &Rig, time: Duration, load: &Load, what: &str) {
    const STEP: Duration = Duration::from_secs(60);
    /// By then the loss is noticed.
    const FIRST: Duration = Duration::from_secs(10);
    let (begin, watch_slowly) = (Instant::now(), |slow| {
        rig.members.iter().for_each(|member| member.watch.set_slow(slow));
    });
    load.run_for(time.min(FIRST)).await;
    watch_slowly(true);
    while let Some(left) = time.checked_sub(begin.elapsed()) {
        load.run_for(left.min(STEP)).await;
        if minutes().is_some() {
            let reads = load.between(begin, Instant::now());
            let failed = reads.failures().count();
            let passed = begin.elapsed().as_secs();
            note(&format!("{what}: {passed} s, {} reads, {failed} failed\n", reads.reads().len()));
        }
    }
    watch_slowly(false);
}
