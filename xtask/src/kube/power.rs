//! `kube stop-node` and `kube start-node`: a node's sudden death and its return, for tests.
//!
//! Death is as real as one machine allows: every process of the node is killed at once, its pods
//! included, and its cable is pulled. Node 1's death leaves the control plane running.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::plan::{Node, Plan};
use super::start::Starter;
use super::{cgroup, down, ownership, up};
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// Kills a node.
///
/// # Errors
/// When there is no such node, or its processes do not end.
pub(crate) fn stop(number: u8) -> Result<()> {
    let (plan, node) = find(number)?;
    cable(&plan, node, "down")?;
    down::kill_all(&cgroup::hierarchies()?, &node.cgroup(), &[])
}

/// Starts a killed node again. Its disk is as it was; what a machine keeps in memory is gone.
///
/// # Errors
/// When there is no such node, it still runs, or it does not come up.
pub(crate) fn start(number: u8) -> Result<()> {
    let (plan, node) = find(number)?;
    let hierarchies = cgroup::hierarchies()?;
    if !cgroup::processes(&hierarchies, &node.cgroup()).is_empty() {
        bail!("{} runs", node.name());
    }
    for folder in ["run", "lib/cni"] {
        let folder = node.folder().join(folder);
        fs::remove_dir_all(&folder).context("forget what was in memory")?;
        fs::create_dir_all(&folder)?;
    }
    fs::remove_file(node.folder().join("held")).context("forget the old mounts")?;
    cable(&plan, node, "up")?;
    let mut starter = Starter::new(&plan, &hierarchies);
    let holder = starter.boot(node, &tools::pause_image()?)?;
    starter.join(node, holder, &tools::ensure(&[Tool::Kubelet, Tool::KubeProxy])?)?;
    let name = node.name();
    let kubelet = format!("kubelet-{name}");
    starter.wait("the node's return", &kubelet, up::PATIENCE, || {
        up::kubectl(&plan, &["get", "node", &name, "--output=json"], "")
            .is_ok_and(|node| up::is_ready(&serde_json::from_str(&node).unwrap_or_default()))
    })
}

fn find(number: u8) -> Result<(Plan, Node)> {
    let Some(owner) = ownership::ours(workspace::root())? else { bail!("no cluster stands here") };
    let plan = Plan::new(owner.nodes);
    match plan.nodes.iter().find(|node| node.number == number).copied() {
        Some(node) => Ok((plan, node)),
        None => bail!("there is no node {number} among {}", owner.nodes),
    }
}

/// Pulls or plugs a node's cable at the hub's end, which keeps the node's own routes. The hub
/// itself has none.
fn cable(plan: &Plan, node: Node, state: &str) -> Result<()> {
    if node != plan.first() {
        let hub = plan.first().netns();
        let mut ip = Command::new("ip");
        ip.args(["-n", &hub, "link", "set", &node.name(), state]);
        command::output(&mut ip)?;
    }
    Ok(())
}
