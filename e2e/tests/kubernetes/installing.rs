//! The chart, as those who run a platform use it: `helm test`, a second release, cluster-wide.

use std::time::Duration;

use larder_e2e::cluster::Cluster;
use larder_e2e::poll;
use larder_e2e::process;

use crate::grpc;
use crate::world::{SHOP, SYSTEM, helm_install, offer_database, sample, watch_namespaces, world};

const ELSEWHERE: &str = "elsewhere";

/// `helm test`, given so long.
fn helm_test(cluster: &Cluster, timeout: &str) -> Result<String, String> {
    let mut helm = cluster.program("helm");
    helm.args(["test", "larder", "--namespace", SYSTEM, "--timeout", timeout]);
    process::output(&mut helm)
}

#[test]
fn helm_test_reads_a_key_through_a_cluster_of_its_own() {
    let world = world();
    let (told, took) = std::thread::scope(|scope| {
        let testing = scope.spawn(|| helm_test(&world.cluster, "120s"));
        // helm removes what it made when all went well, so the read is looked for meanwhile.
        let of_test = (SHOP, "larder-test");
        let (answer, took) = poll::until("a read of our own", Duration::from_secs(90), || {
            grpc::get(&world.cluster, of_test, "larder-test", "healthz")
        });
        assert!(grpc::value_of(&answer).is_string(), "{answer}");
        (testing.join().expect("helm ran"), took)
    });
    let told = told.unwrap_or_else(|e| panic!("helm test: {e}"));
    let pod = told.split("TEST SUITE:").find(|suite| suite.contains("larder-test-get"));
    assert!(pod.is_some_and(|pod| pod.contains("Succeeded")), "{told}");
    println!("helm test succeeded; its cluster answered after {:.1} s", took.as_secs_f64());
    poll::until("nothing of the test is left", Duration::from_secs(30), || {
        let all = ["cachecluster/larder-test", "cachegroup/larder-test", "pod/larder-test-get"];
        let get = ["get", "--namespace", SHOP, "--ignore-not-found", "--output=name"];
        let left = world.cluster.kubectl(&[&get[..], &all].concat())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn helm_test_fails_and_says_where_to_look_when_nobody_answers() {
    let world = world();
    world.operators(0);
    let told = helm_test(&world.cluster, "10s").expect_err("no operator makes the cluster");
    let look = format!("kubectl logs --namespace {SHOP} larder-test-get");
    assert!(told.contains("Failed") && told.contains(&look), "{told}");
    let log = world.cluster.must(&["logs", "--namespace", SHOP, "larder-test-get"]);
    println!("helm test without an operator: {}", log.lines().next().unwrap_or_default());
    assert!(log.contains("no member answered"), "{log}");
    // What was made before serves on without an operator.
    world.get("students", "Tom").expect("a row");
    world.operators(2);
    world.cluster.must(&["delete", "pod/larder-test-get", "--namespace", SHOP]);
}

#[test]
fn a_second_operator_for_the_same_namespace_is_refused() {
    let world = world();
    world.cluster.namespace("second");
    let install = |settings: &[&str]| {
        helm_install(&world.cluster, "other", "second", settings).expect_err("refused")
    };
    let told = install(&[]);
    let whose = "the release larder in the namespace larder-system";
    assert!(told.contains(whose) && told.contains("--set crds.install=false"), "{told}");
    let told = install(&["crds.install=false", "watchNamespaces={shop}"]);
    assert!(
        told.contains(whose) && told.contains("namespace shop is already reconciled"),
        "{told}"
    );
    let told = install(&["crds.install=false", "clusterWide=true"]);
    assert!(told.contains(whose), "{told}");

    // One of its own is fine, beside the first.
    helm_install(&world.cluster, "other", "second", &["crds.install=false", "replicas=1"])
        .unwrap_or_else(|e| panic!("a second operator: {e}"));
    let mut helm = world.cluster.program("helm");
    process::output(helm.args(["uninstall", "other", "--namespace", "second"])).expect("gone");
}

#[test]
fn cluster_wide_serves_a_namespace_that_nobody_named() {
    let world = world();
    let cluster = &world.cluster;
    cluster.namespace(ELSEWHERE);
    offer_database(cluster, ELSEWHERE, &world.postgres.url());
    helm_install(cluster, "larder", SYSTEM, &[&watch_namespaces(), "clusterWide=true"])
        .unwrap_or_else(|e| panic!("helm upgrade: {e}"));
    let plain = "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {name: health}\n\
                 spec:\n  clusterRef: {name: shop}\n  origin:\n    http: {urlTemplate: \
                 \"http://shop-members.elsewhere.svc:7690/{key}\"}\n";
    cluster.apply(ELSEWHERE, &format!("{}---\n{plain}", sample())).expect("accepted");
    let limit = Duration::from_secs(90);
    let ready = cluster.wait_true(ELSEWHERE, "cachecluster/shop", "Ready", limit);
    cluster.wait_true(ELSEWHERE, "cachegroup/health", "Ready", limit);
    let get = |group: &str, key: &str| grpc::get(cluster, (ELSEWHERE, "shop"), group, key);
    poll::until("a value without a Secret", limit, || get("health", "healthz"));
    println!(
        "cluster-wide, in a namespace not named: Ready {:.1} s after apply",
        ready.as_secs_f64()
    );

    let refused = cluster.condition(ELSEWHERE, "cachegroup/students", "Ready").expect("a status");
    assert_eq!((refused.status.as_str(), refused.reason.as_str()), ("False", "SecretForbidden"));
    // As the chart's notes say.
    cluster.must(&[
        "create",
        "rolebinding",
        "larder-secrets",
        "--namespace",
        ELSEWHERE,
        "--clusterrole=larder-secrets",
        "--serviceaccount=larder-system:larder",
    ]);
    let (row, took) = poll::until("a row", Duration::from_secs(60), || get("students", "Tom"));
    assert_eq!(grpc::value_of(&row), grpc::base64("630"));
    println!("a right to Secrets given: its first row {:.1} s after", took.as_secs_f64());

    cluster.must(&["delete", "cachecluster,cachegroup", "--all", "--namespace", ELSEWHERE]);
    let mut helm = cluster.program("helm");
    helm.args(["rollback", "larder", "--namespace", SYSTEM, "--wait", "--timeout", "120s"]);
    process::output(&mut helm).unwrap_or_else(|e| panic!("helm rollback: {e}"));
}
