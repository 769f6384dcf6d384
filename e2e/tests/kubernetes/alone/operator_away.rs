//! No operator runs: `helm test` fails with a hint, and members serve although etcd is away too.

use std::time::{Duration, Instant};

use crate::etcd::Etcd;
use crate::helm::helm_test;
use crate::world::{World, alone_after, durable_sample};

const PER_SECOND: u32 = 300;
/// Longer than the members' leases, which last ten seconds.
const AWAY: Duration = Duration::from_secs(14);

#[test]
fn reads_go_on_without_etcd_and_the_operator_and_helm_test_says_where_to_look() {
    let (access, shop) = alone_after(|world| world.own_shop("outage", &durable_sample()));
    let etcd = Etcd::of(&access, &shop);
    let id = etcd.wait_complete();
    let reader = shop.reader(PER_SECOND);
    access.scale_operator(0);
    etcd.stop();
    let begin = Instant::now();
    let helm_test = std::thread::scope(|scope| {
        let testing = scope.spawn(|| helm_test_fails(&access));
        while begin.elapsed() < AWAY || !testing.is_finished() {
            reader.wait_for(reader.reads() + u64::from(PER_SECOND));
        }
        testing.join()
    });
    let pods = etcd.check_no_pods();
    let away = begin.elapsed();
    access.scale_operator(2);
    helm_test.expect("helm test fails as it should");
    pods.expect("nothing brings etcd back without the operator");
    // The others only need the operator.
    let world = access.leave();
    let etcd = Etcd::of(world, &shop);
    let (id_after, complete) = etcd.wait_complete_after(Instant::now(), None);
    assert_eq!(id, id_after, "its volumes were not lost");
    etcd.wait_three_voters();
    shop.wait_ready();
    let what = format!(
        "all of etcd and the operator away for {:.1} s: the registry complete {:.1} s after the \
         operator's return",
        away.as_secs_f64(),
        complete.as_secs_f64()
    );
    reader.expect_no_failures(&what);
}

fn helm_test_fails(world: &World) {
    let namespace = world.namespace("shop");
    let output = helm_test(&world.cluster, "10s").expect_err("no operator creates the cluster");
    let hint = format!("kubectl logs --namespace {namespace} larder-test-get");
    assert!(output.contains("Failed") && output.contains(&hint), "{output}");
    let log = world.cluster.must(&["logs", "--namespace", &namespace, "larder-test-get"]);
    println!("helm test without an operator: {}", log.lines().next().unwrap_or_default());
    assert!(log.contains("no member answered"), "{log}");
    world.cluster.must(&["delete", "pod/larder-test-get", "--namespace", &namespace]);
}
