//! The registry is lost while members serve: reads go on, and it fills itself again.

use std::time::{Duration, Instant};

use larder_e2e::poll;
use larder_e2e::process;

use crate::world::{World, await_reads, no_read_failed, offer_database, sample, world};

const LOSSY: &str = "lossy";
const ETCD: &str = "larder.dev/cluster=shop,app.kubernetes.io/component=etcd";
const PER_SECOND: u32 = 300;
/// Bar of the promise: so long after the loss the registry is complete again.
const COMPLETE: Duration = Duration::from_secs(60);
/// Longer than the members' leases, which live for ten seconds.
const AWAY: Duration = Duration::from_secs(14);

#[test]
fn etcd_loses_its_disks_and_no_read_fails() {
    let world = world();
    let durable = "managed:\n      members: 3\n      storage: {size: 256Mi}";
    let sample = sample().replace("managed:\n      members: 3", durable);
    assert!(sample.contains("storage"), "{sample}");
    offer_database(&world.cluster, LOSSY, &world.postgres.url());
    world.cluster.apply(LOSSY, &sample).expect("accepted");
    settle(&world);

    for lost in [2, 3] {
        let reader = world.reader(LOSSY, PER_SECOND);
        let begun = Instant::now();
        lose_disks(&world, lost);
        let complete = registry_complete(&world, begun);
        let whole = settle(&world);
        let what = format!(
            "{lost} of 3 etcd members lost with their disks at {PER_SECOND} reads/s: registry \
             complete after {:.1} s, three voters {:.1} s later",
            complete.as_secs_f64(),
            whole.as_secs_f64()
        );
        no_read_failed(&what, reader);
    }
    claims_are_those_of_three_members(&world);

    let reader = world.reader(LOSSY, PER_SECOND);
    etcd_and_operator_away(&world, || {
        await_reads(&reader, reader.reads() + AWAY.as_secs() * u64::from(PER_SECOND));
    });
    let begun = Instant::now();
    let complete = registry_complete(&world, begun);
    settle(&world);
    let what = format!(
        "all of etcd and the operator away for {} s: registry complete {:.1} s after",
        AWAY.as_secs(),
        complete.as_secs_f64()
    );
    no_read_failed(&what, reader);
    world.cluster.must(&["delete", "cachecluster,cachegroup", "--all", "--namespace", LOSSY]);
}

/// Waits for Ready, which needs three voters and every member in the registry.
fn settle(world: &World) -> Duration {
    world.cluster.wait_true(LOSSY, "cachecluster/shop", "Ready", Duration::from_secs(120))
}

/// The volumes first: the pods' successors must not find them.
fn lose_disks(world: &World, count: usize) {
    let pods = world.cluster.pods(LOSSY, ETCD).expect("pods can be listed");
    let pods: Vec<String> = pods.into_iter().take(count).map(|pod| pod.name).collect();
    let kubectl = |verb: &[&str], names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = [verb, &["--namespace", LOSSY]].concat();
        all.extend(names);
        world.cluster.must(&all);
    };
    let claims: Vec<String> = pods.iter().map(|pod| format!("data-{pod}")).collect();
    kubectl(&["delete", "persistentvolumeclaim", "--wait=false"], &claims);
    kubectl(&["delete", "pod", "--grace-period=0", "--force"], &pods);
}

/// Waits until etcd itself, asked by its own command line through a quorum, holds every member and
/// the group.
fn registry_complete(world: &World, since: Instant) -> Duration {
    poll::until("a complete registry", COMPLETE, || {
        let pods = world.cluster.pods(LOSSY, ETCD)?;
        let urls: Vec<String> =
            pods.iter().map(|pod| format!("http://{}:2379", pod.address)).collect();
        let mut etcdctl = world.cluster.program("etcdctl");
        etcdctl.args(["--endpoints", &urls.join(","), "--command-timeout", "2s"]);
        let keys = process::output(etcdctl.args([
            "get",
            "--prefix",
            "--keys-only",
            &format!("/larder/{LOSSY}/shop/"),
        ]))?;
        let held = |part: &str| keys.lines().filter(|key| key.contains(part)).count();
        match (held("/members/shop-"), held("/groups/students")) {
            (3, 1) => Ok(()),
            other => Err(format!("{other:?}: {keys}")),
        }
    });
    since.elapsed()
}

fn claims_are_those_of_three_members(world: &World) {
    poll::until("three volumes", Duration::from_secs(30), || {
        let list = world.cluster.json(&["persistentvolumeclaims", "--namespace", LOSSY])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].clone()).collect();
        if names.len() == 3 { Ok(()) } else { Err(format!("{names:?}")) }
    });
}

/// Takes all etcd pods away with the operator, which would bring them back, for as long as `meanwhile`.
fn etcd_and_operator_away(world: &World, meanwhile: impl FnOnce()) {
    world.operators(0);
    let scale = |count: &str| {
        let all = ["scale", "statefulset", "--namespace", LOSSY, "--selector", ETCD, count];
        world.cluster.must(&all);
    };
    scale("--replicas=0");
    poll::until("no etcd pod", Duration::from_secs(60), || {
        let list = world.cluster.json(&["pods", "--namespace", LOSSY, "--selector", ETCD])?;
        let left = list["items"].as_array().map_or(0, Vec::len);
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    });
    meanwhile();
    world.operators(2);
}
