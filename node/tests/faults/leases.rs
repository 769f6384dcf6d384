//! R1 and R2: members lose their leases while they serve. A lease is a hint: a member that answers
//! stays in the ring.

use std::time::{Duration, Instant};

use super::figures::seconds;
use super::proxy::Proxy;
use super::rig::{BASE, Rig, SHORT_LEASE, Setup};
use super::shared::until;

/// R1. The member cannot reach etcd either, so it stays without a lease for a whole TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarter_of_the_members_lose_their_leases_and_no_key_moves() {
    let setup = Setup { members: 4, ..Setup::default() };
    let Some(rig) = Rig::start(setup).await else { return };
    let (loads, load) = (rig.origin.loads(), rig.load());
    load.run_for(BASE).await;
    let before = load.between(Instant::now() - BASE, Instant::now()).hit_ratio();

    let lost = Instant::now();
    let member = &rig.members[1];
    let leases = rig.etcd.registrations(&rig.keys).await;
    let own = rig.keys.member(&member.name);
    let (_, lease) = leases.iter().find(|(key, _)| *key == own).expect("registered");
    member.proxies.iter().for_each(Proxy::freeze);
    rig.etcd.client().await.lease_revoke(*lease).await.expect("the lease exists");
    load.run_for(SHORT_LEASE).await;
    let seen = rig.members[0].watch.samples_since(lost).iter().any(|sample| sample.held);
    assert!(seen, "the others see that a lease is gone");
    let during = load.between(lost, Instant::now()).hit_ratio();
    member.proxies.iter().for_each(Proxy::restore);
    let again = rig.converged(2 * SHORT_LEASE).await;

    let reads = load.stop().await;
    let (before_percent, during_percent) = (before * 100.0, during * 100.0);
    let figures = [
        ("hit ratio", format!("{before_percent:.1} % before, {during_percent:.1} % during")),
        ("registered again after", seconds(again)),
    ];
    rig.conclude(("R1", "1 of 4 leases lost for 2 s"), &reads, (lost, loads), &figures);
    assert!(before - during < 0.01, "hit ratio from {before} to {during}");
}

/// R2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_every_lease_is_revoked_the_ring_is_kept_and_all_register_again() {
    let Some(rig) = Rig::start(Setup::default()).await else { return };
    let (loads, load) = (rig.origin.loads(), rig.load());
    load.run_for(BASE).await;

    let before = rig.etcd.registrations(&rig.keys).await;
    let mut client = rig.etcd.client().await;
    let revoked = Instant::now();
    for (_, lease) in &before {
        client.lease_revoke(*lease).await.expect("the lease exists");
    }
    until(SHORT_LEASE, "every member registers again, under another lease", || async {
        let now = rig.etcd.registrations(&rig.keys).await;
        now.len() == before.len() && now.iter().all(|entry| !before.contains(entry))
    })
    .await;
    let again = revoked.elapsed();
    // The metric is a gauge, so a slow scrape may miss it on one member.
    let shown = rig.members.iter().flat_map(|member| member.watch.samples_since(revoked));
    let shown = shown.filter(|sample| sample.held).map(|sample| sample.at - revoked).min();
    rig.converged(2 * SHORT_LEASE).await;
    load.run_for(BASE).await;

    let reads = load.stop().await;
    let figures = [
        ("metric after", shown.map_or("never".into(), seconds)),
        ("registered again after", seconds(again)),
    ];
    rig.conclude(("R2", "every lease revoked"), &reads, (revoked, loads), &figures);
    assert!(shown.is_some_and(|after| after < Duration::from_secs(5)), "the metric: {shown:?}");
}
