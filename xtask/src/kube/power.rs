//! `kube stop-node` and `kube start-node`: a node's sudden failure and its return, for tests.
//!
//! A failure takes the node's link down and kills every process of the node, its pods included.
//! Node 1's failure leaves the control plane running.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kubectl::{PATIENCE, is_ready, kubectl};
use super::plan::{Node, Plan};
use super::start::Starter;
use super::{cgroup, down, ownership};
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// Kills a node.
///
/// # Errors
/// When there is no such node, or its processes do not end.
pub(crate) fn stop(number: u8) -> Result<()> {
    let (plan, node) = find(number)?;
    set_link(&plan, node, "down")?;
    down::kill_all(&cgroup::hierarchies()?, &node.cgroup(), &[])
}

/// Starts a killed node again. Its disk is unchanged; what a machine keeps in memory is lost.
///
/// # Errors
/// When there is no such node, it is running, or it does not come up.
pub(crate) fn start(number: u8) -> Result<()> {
    let (plan, node) = find(number)?;
    let hierarchies = cgroup::hierarchies()?;
    if !cgroup::processes(&hierarchies, &node.cgroup()).is_empty() {
        bail!("{} is running", node.name());
    }
    for folder in ["run", "lib/cni"] {
        let folder = node.folder().join(folder);
        fs::remove_dir_all(&folder).context("clear what was in memory")?;
        fs::create_dir_all(&folder)?;
    }
    fs::remove_file(node.folder().join("held")).context("clear the old mounts")?;
    set_link(&plan, node, "up")?;
    let mut starter = Starter::new(&plan, &hierarchies);
    let holder = starter.boot(node, &tools::pause_image()?)?;
    starter.join(node, holder, &tools::ensure(&[Tool::Kubelet, Tool::KubeProxy])?)?;
    let name = node.name();
    let kubelet = format!("kubelet-{name}");
    starter.wait("the node's return", &kubelet, PATIENCE, || {
        kubectl(&plan, &["get", "node", &name, "--output=json"], "")
            .is_ok_and(|node| is_ready(&serde_json::from_str(&node).unwrap_or_default()))
    })
}

fn find(number: u8) -> Result<(Plan, Node)> {
    let Some(owner) = ownership::find(workspace::root())? else { bail!("there is no cluster") };
    let plan = Plan::new(owner.nodes);
    match plan.nodes.iter().find(|node| node.number == number).copied() {
        Some(node) => Ok((plan, node)),
        None => bail!("there is no node {number}: the cluster has {}", owner.nodes),
    }
}

/// Sets the hub's end of a node's link up or down, which keeps the node's own routes. Node 1, the
/// hub, has no link.
fn set_link(plan: &Plan, node: Node, state: &str) -> Result<()> {
    if node != plan.first() {
        let hub = plan.first().netns();
        let mut ip = Command::new("ip");
        ip.args(["-n", &hub, "link", "set", &node.name(), state]);
        command::output(&mut ip)?;
    }
    Ok(())
}
