//! The operator watches every namespace.

use std::time::Duration;

use larder_e2e::{poll, process};

use crate::grpc;
use crate::helm::{self, RELEASE, SYSTEM};
use crate::world::{alone, small_sample};

#[test]
fn a_cluster_wide_operator_serves_a_namespace_that_was_not_named() {
    let world = alone();
    let cluster = &world.cluster;
    let namespace = &world.unwatched_namespace("elsewhere");
    world.offer_database(namespace);
    helm::install(cluster, RELEASE, SYSTEM, &[&world.watch_namespaces(), "clusterWide=true"])
        .unwrap_or_else(|e| panic!("helm upgrade: {e}"));
    let plain = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {{name: health}}\n\
         spec:\n  clusterRef: {{name: shop}}\n  origin:\n    http: {{urlTemplate: \
         \"http://shop-members.{namespace}.svc:7690/{{key}}\"}}\n"
    );
    cluster.apply(namespace, &format!("{}---\n{plain}", small_sample())).expect("accepted");
    let limit = Duration::from_secs(90);
    let ready = cluster.wait_true(namespace, "cachecluster/shop", "Ready", limit);
    cluster.wait_true(namespace, "cachegroup/health", "Ready", limit);
    let get = |group: &str, key: &str| grpc::get(cluster, (namespace, "shop"), group, key);
    poll::until("a value that needs no Secret", limit, || get("health", "healthz"));
    println!(
        "cluster-wide, in a namespace that was not named: Ready {:.1} s after apply",
        ready.as_secs_f64()
    );

    let refused = cluster.condition(namespace, "cachegroup/students", "Ready").expect("a status");
    assert_eq!((refused.status.as_str(), refused.reason.as_str()), ("False", "SecretForbidden"));
    // As the chart's notes say.
    cluster.must(&[
        "create",
        "rolebinding",
        "larder-secrets",
        "--namespace",
        namespace,
        "--clusterrole=larder-secrets",
        "--serviceaccount=larder-system:larder",
    ]);
    let (row, took) = poll::until("a row", Duration::from_secs(60), || get("students", "Tom"));
    assert_eq!(grpc::value_of(&row), grpc::base64("630"));
    println!("the right to read Secrets granted: the first row {:.1} s later", took.as_secs_f64());

    let resources = ["cachecluster,cachegroup", "--all", "--wait=false"];
    cluster.must(&[&["delete", "--namespace", namespace], &resources[..]].concat());
    let mut rollback = helm::helm(cluster, &["rollback"], RELEASE, SYSTEM);
    rollback.args(["--wait", "--timeout", "120s"]);
    process::output(&mut rollback).unwrap_or_else(|e| panic!("helm rollback: {e}"));
}
