//! `helm test` without an operator.

use crate::helm::helm_test;
use crate::world::alone;

#[test]
fn helm_test_fails_without_an_operator_and_says_where_to_look() {
    let world = alone();
    let namespace = world.namespace("shop");
    world.scale_operator(0);
    let output = helm_test(&world.cluster, "10s").expect_err("no operator creates the cluster");
    let hint = format!("kubectl logs --namespace {namespace} larder-test-get");
    assert!(output.contains("Failed") && output.contains(&hint), "{output}");
    let log = world.cluster.must(&["logs", "--namespace", &namespace, "larder-test-get"]);
    println!("helm test without an operator: {}", log.lines().next().unwrap_or_default());
    assert!(log.contains("no member answered"), "{log}");
    world.scale_operator(2);
    world.cluster.must(&["delete", "pod/larder-test-get", "--namespace", &namespace]);
}
