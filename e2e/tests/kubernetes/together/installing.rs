//! The chart as platform teams use it: `helm test`, a second release.

use std::time::Duration;

use larder_e2e::{poll, process};

use crate::grpc;
use crate::helm::{self, helm_test};
use crate::world::together;

#[test]
fn helm_test_reads_a_key_through_a_cluster_of_its_own() {
    let world = together();
    let namespace = world.namespace("shop");
    let (output, took) = std::thread::scope(|scope| {
        let testing = scope.spawn(|| helm_test(&world.cluster, "120s"));
        // helm deletes what it created when the test succeeds, so read in the meantime.
        let cluster_of_test = (namespace.as_str(), "larder-test");
        let (answer, took) = poll::until("a read", Duration::from_secs(90), || {
            grpc::get(&world.cluster, cluster_of_test, "larder-test", "healthz")
        });
        assert!(grpc::value_of(&answer).is_string(), "{answer}");
        (testing.join().expect("helm ran"), took)
    });
    let output = output.unwrap_or_else(|e| panic!("helm test: {e}"));
    let pod = output.split("TEST SUITE:").find(|suite| suite.contains("larder-test-get"));
    assert!(pod.is_some_and(|pod| pod.contains("Succeeded")), "{output}");
    println!("helm test succeeded; its cluster answered after {:.1} s", took.as_secs_f64());
    poll::until("nothing of the test is left", Duration::from_secs(30), || {
        let objects = ["cachecluster/larder-test", "cachegroup/larder-test", "pod/larder-test-get"];
        let get = ["get", "--namespace", &namespace, "--ignore-not-found", "--output=name"];
        let left = world.cluster.kubectl(&[&get[..], &objects].concat())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_second_operator_for_the_same_namespace_is_refused() {
    let world = together();
    let own = &world.unwatched_namespace("second");
    let shop = world.namespace("shop");
    let install = |settings: &[&str]| helm::install(&world.cluster, "other", own, settings);
    let refused = |settings: &[&str]| install(settings).expect_err("refused");
    let first = "the release larder in the namespace larder-system";
    let reason = refused(&[]);
    assert!(reason.contains(first) && reason.contains("--set crds.install=false"), "{reason}");
    let reason = refused(&["crds.install=false", &format!("watchNamespaces={{{shop}}}")]);
    let clash = format!("namespace {shop} is already reconciled by");
    assert!(reason.contains(first) && reason.contains(&clash), "{reason}");
    let reason = refused(&["crds.install=false", "clusterWide=true"]);
    assert!(reason.contains(first), "{reason}");

    // One for its own namespace is accepted.
    install(&["crds.install=false", "replicas=1"])
        .unwrap_or_else(|e| panic!("a second operator: {e}"));
    let mut uninstall = helm::helm(&world.cluster, &["uninstall"], "other", own);
    process::output(&mut uninstall).expect("removed");
}
