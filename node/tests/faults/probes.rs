//! R11: probes depend on nothing outside the process, and readiness ends with the member's own
//! drain. Every other test of this program checks the probes during its own fault.

use std::time::{Duration, Instant};

use super::figures::{record, seconds};
use super::load::{Choice, Load};
use super::member::Member;
use super::rig::{BASE, KEYS, Rig, Setup};
use super::shared::until;
use super::watch::status;

/// The members that keep running.
const OTHERS: [usize; 2] = [0, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_probe_fails_while_origin_peer_and_etcd_are_down_at_once() {
    let Some(mut rig) = Rig::start(Setup::default()).await else { return };
    let cached = Load::start(rig.stock(&OTHERS), 50, Choice::Among(KEYS));
    let unknown = Load::start(rig.stock(&OTHERS), 50, Choice::NewFrom(KEYS));
    cached.run_for(BASE).await;

    let down = Instant::now();
    rig.origin.set_failing(true);
    rig.members[2].freeze();
    rig.etcd.kill_all();
    cached.run_for(3 * BASE).await;
    let (cached, unknown) = (cached.stop().await, unknown.stop().await);
    let failing = unknown.between(down, Instant::now());
    let failed = failing.failures().count();
    assert!(failed > failing.reads().len() / 2, "{failed} new keys failed: the origin is down");
    rig.etcd.restart_killed();
    rig.members[2].thaw();
    rig.etcd.serving().await;

    let probes = rig.check_probes();
    record(
        "R11",
        "origin, one of three members and etcd down for 3 s",
        &[
            ("reads of cached keys", cached.reads().len().to_string()),
            ("reads of new keys failed", format!("{failed} of {}", failing.reads().len())),
            ("probes", format!("0 of {probes} failed")),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_ends_when_a_member_drains_and_liveness_does_not() {
    let Some(mut rig) = Rig::start(Setup::default()).await else { return };
    // A read in flight keeps the drain open for as long as the probes are compared.
    rig.origin.set_delay(Duration::from_millis(400));
    let load = Load::start(rig.stock(&[0]), 20, Choice::NewFrom(KEYS));
    load.run_for(BASE).await;
    let member: &mut Member = &mut rig.members[0];
    member.watch.pause();
    let asked = Instant::now();
    member.process.terminate();
    let admin = member.admin;
    let unready = || async { status(admin, "/readyz").await == Some(503) };
    until(Duration::from_secs(1), "readiness ends", unready).await;
    let ended = asked.elapsed();
    assert_eq!(status(admin, "/healthz").await, Some(200), "a draining member is alive");
    let exit = member.process.ended(Duration::from_secs(10)).await;
    assert!(exit.success(), "a clean drain: {exit}");
    drop(load);
    rig.members.remove(0);
    record(
        "R11",
        "a member drains",
        &[
            ("readiness ends after", seconds(ended)),
            ("probes of the others", format!("0 of {} failed", rig.check_probes())),
        ],
    );
}
