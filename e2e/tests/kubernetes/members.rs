//! Members: how they run, what they take, and that reads go on while they come and go.

use std::time::Duration;

use crate::world::{SHOP, SYSTEM, await_reads, metric, no_read_failed, world};

#[test]
fn pods_are_restricted_and_members_hold_no_token() {
    let world = world();
    let pods = world.cluster.json(&["pods", "--namespace", SHOP]).expect("pods");
    let pods = pods["items"].as_array().expect("a list");
    assert!(pods.len() >= 6, "three members and three etcd members");
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        let nodes = pod.pointer("/spec/containers/0/securityContext").expect("a context");
        assert_eq!(nodes["readOnlyRootFilesystem"], true, "{name}");
    }
    let nodes: std::collections::BTreeSet<String> =
        world.member_pods().into_iter().map(|pod| pod.node).collect();
    assert_eq!(nodes.len(), 3, "members spread over the nodes");
}

#[test]
fn a_killed_member_costs_no_reads_and_comes_back() {
    let world = world();
    world.wait_members(3);
    let reader = world.reader(SHOP, 100);
    let member = ["delete", "pod", "shop-1", "--namespace", SHOP];
    world.cluster.must(&[&member[..], &["--grace-period=0", "--force"]].concat());
    let healed = world.wait_members(3);
    await_reads(&reader, reader.reads() + 300);
    let what = format!("member killed: ring of 3 again after {:.1} s", healed.as_secs_f64());
    no_read_failed(&what, reader);
}

#[test]
fn scaling_to_four_and_back_fails_no_read() {
    let world = world();
    world.wait_members(3);
    let reader = world.reader(SHOP, 500);
    let scale = |count: usize| {
        let replicas = format!("--replicas={count}");
        world.cluster.must(&["scale", "cachecluster/shop", &replicas, "--namespace", SHOP]);
        let took = world.wait_members(count);
        world.cluster.wait_true(SHOP, "cachecluster/shop", "Ready", Duration::from_secs(30));
        took.as_secs_f64()
    };
    let (up, down) = (scale(4), scale(3));
    no_read_failed(&format!("scale 3→4 {up:.1} s, 4→3 {down:.1} s at 500 reads/s"), reader);
}

#[test]
fn programs_take_little_memory() {
    let world = world();
    let megabytes =
        |address: &str| metric(address, "process_resident_memory_bytes").expect("the metric") / 1e6;
    let operators = world.cluster.pods(SYSTEM, "app.kubernetes.io/name=larder-operator");
    let leads = |address: &str| metric(address, "larder_operator_leader") == Ok(1.0);
    let operators = operators.expect("pods can be listed");
    let leader = operators.iter().find(|pod| leads(&pod.address)).expect("one leads");
    let operator = megabytes(&leader.address);
    let members: Vec<f64> = world.member_pods().iter().map(|p| megabytes(&p.address)).collect();
    println!("RSS in MB: members {members:.1?}, the operator that leads {operator:.1}");
    // Members have served the other tests by now; the bars for idle ones are 15 and 20.
    assert!(members.iter().all(|member| *member < 40.0), "{members:?}");
    assert!(operator < 40.0, "{operator}");
}
