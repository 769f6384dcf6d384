//! The nodes' network namespaces: a star around node 1 with no connection to the outside.
//!
//! The `ip` commands that create it are data ([`commands`]). All devices, routes and rules are in
//! the namespaces and disappear with them; the machine's own network is never changed.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::plan::{NETNS_FOLDER, NETNS_PREFIX, Node, Plan};
use crate::command;

/// Arguments of the `ip` commands that create a cluster's network.
pub(crate) fn commands(plan: &Plan) -> Vec<String> {
    let first = plan.first();
    let hub = first.netns();
    let mut lines = Vec::new();
    for node in &plan.nodes {
        let netns = node.netns();
        lines.push(format!("netns add {netns}"));
        lines.push(format!("-n {netns} link set lo up"));
        if *node == first {
            // A bridge instead of a dummy device, which some kernels lack.
            lines.push(format!("-n {hub} link add eth0 type bridge"));
        } else {
            let port = node.name();
            lines.push(format!("-n {netns} link add eth0 type veth peer name {port} netns {hub}"));
            lines.push(format!("-n {hub} link set {port} master eth0 up"));
        }
        lines.push(format!("-n {netns} addr add {}/24 dev eth0", node.address()));
        lines.push(format!("-n {netns} link set eth0 up"));
        // The kubelet finds its address by the default route. Node 1's gateway does not exist.
        let gateway =
            if *node == first { "10.87.0.254".into() } else { first.address().to_string() };
        lines.push(format!("-n {netns} route add default via {gateway} dev eth0"));
    }
    for (node, other) in pairs(&plan.nodes) {
        let (netns, subnet, via) = (node.netns(), other.pod_subnet(), other.address());
        lines.push(format!("-n {netns} route add {subnet} via {via}"));
    }
    lines
}

fn pairs(nodes: &[Node]) -> impl Iterator<Item = (Node, Node)> {
    nodes
        .iter()
        .flat_map(move |node| nodes.iter().map(move |other| (*node, *other)))
        .filter(|(node, other)| node != other)
}

/// Creates the network.
///
/// # Errors
/// The output of the `ip` command that failed.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    for line in commands(plan) {
        command::output(Command::new("ip").args(line.split(' ')))?;
    }
    for node in &plan.nodes {
        let mut forward = Command::new("nsenter");
        forward.arg(format!("--net={}", node.netns_file().display()));
        forward.args(["--", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
        command::output(&mut forward)?;
    }
    Ok(())
}

/// Network namespaces of this machine that have one of the cluster's names.
pub(crate) fn existing() -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(NETNS_FOLDER)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_node_name(name))
        .collect();
    found.sort();
    found
}

fn is_node_name(name: &str) -> bool {
    name.strip_prefix(NETNS_PREFIX)
        .and_then(|rest| rest.strip_prefix("node"))
        .is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Removes the namespaces with everything inside.
///
/// # Errors
/// The output of the `ip` command that failed.
pub(crate) fn remove() -> Result<()> {
    for name in existing() {
        command::output(Command::new("ip").args(["netns", "delete", &name]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_route_to_every_other_nodes_pods() {
        let lines = commands(&Plan::new(3));
        let routes = lines.iter().filter(|line| line.contains("route add 10.88.")).count();
        assert_eq!(routes, 6);
        let back = "-n larder-node3 route add 10.88.2.0/24 via 10.87.0.2".to_owned();
        assert!(lines.contains(&back), "{lines:#?}");
    }

    #[test]
    fn every_command_stays_inside_a_namespace() {
        for line in commands(&Plan::new(3)) {
            assert!(
                line.starts_with("-n larder-node") || line.starts_with("netns add larder-node")
            );
        }
    }

    #[test]
    fn only_names_of_nodes_are_recognised() {
        assert!(is_node_name("larder-node1"));
        for other in ["node1", "larder-nodes", "larder-x", "larder-node", "prod"] {
            assert!(!is_node_name(other), "{other}");
        }
    }
}
