//! Members: how their pods run, and that reads go on while members come and go.

use std::collections::BTreeSet;

use crate::shop::metric;
use crate::world::{small_sample, together};

#[test]
fn pods_are_restricted_and_members_hold_no_token() {
    let world = together();
    let shop = world.shop();
    let selector = ["--selector", "larder.dev/cluster=shop"];
    let query = [&["pods", "--namespace", shop.namespace.as_str()], &selector[..]].concat();
    let pods = world.cluster.json(&query).expect("pods");
    let pods = pods["items"].as_array().expect("a list");
    assert_eq!(pods.len(), 6, "three members and three etcd members");
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        for container in pod["spec"]["containers"].as_array().expect("containers") {
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        }
    }
    let nodes: BTreeSet<String> = shop.member_pods().into_iter().map(|pod| pod.node).collect();
    assert_eq!(nodes.len(), 3, "members spread over the nodes");
}

#[test]
fn a_killed_member_costs_no_reads_and_comes_back() {
    let world = together();
    let shop = world.own_shop("killed", &small_sample());
    shop.wait_members(3);
    let uid = |name: &str| {
        let pods = shop.member_pods();
        pods.into_iter().find(|pod| pod.name == name).expect("a ready pod").uid
    };
    let before = uid("shop-1");
    let reader = shop.reader(100);
    let delete = ["delete", "pod", "shop-1", "--grace-period=0", "--force"];
    world.cluster.must(&[&delete[..], &["--namespace", &shop.namespace]].concat());
    let healed = shop.wait_members(3);
    assert_ne!(before, uid("shop-1"), "the killed pod was replaced");
    reader.wait_for(reader.reads() + 300);
    let what = format!("member killed: ring of 3 again after {:.1} s", healed.as_secs_f64());
    reader.expect_no_failures(&what);
}

#[test]
fn scaling_to_four_and_back_fails_no_read() {
    let world = together();
    let shop = world.own_shop("scaled", &small_sample());
    shop.wait_members(3);
    let reader = shop.reader(500);
    let scale = |count: usize| {
        let replicas = format!("--replicas={count}");
        let place = ["cachecluster/shop", "--namespace", &shop.namespace];
        world.cluster.must(&[&["scale", &replicas], &place[..]].concat());
        let took = shop.wait_members(count);
        shop.wait_ready();
        took.as_secs_f64()
    };
    let (up, down) = (scale(4), scale(3));
    reader.expect_no_failures(&format!("scale 3→4 {up:.1} s, 4→3 {down:.1} s"));
}

#[test]
#[ignore = "has bars for the published images: cargo xtask soak cluster memory"]
fn idle_programs_take_little_memory() {
    let world = together();
    let shop = world.own_shop("idle", &small_sample());
    let megabytes =
        |address: &str| metric(address, "process_resident_memory_bytes").expect("the metric") / 1e6;
    let members: Vec<f64> = shop.member_pods().iter().map(|pod| megabytes(&pod.address)).collect();
    let operators = world.cluster.pods("larder-system", "app.kubernetes.io/name=larder-operator");
    let operators = operators.expect("pods can be listed");
    let leads = |address: &str| metric(address, "larder_operator_leader") == Ok(1.0);
    let leader = operators.iter().find(|pod| leads(&pod.address)).expect("one leads");
    let operator = megabytes(&leader.address);
    println!("RSS in MB: idle members {members:.1?}, the leading operator {operator:.1}");
    assert!(members.iter().all(|member| *member < 15.0), "{members:?}");
    assert!(operator < 20.0, "{operator}");
}
