//! `kube status`: the cluster's state, its processes and what the API reports. It changes nothing.

use std::collections::BTreeMap;

use anyhow::Result;

use super::kubectl::kubectl;
use super::ownership;
use super::plan::Plan;
use super::record::{self, Stage, Started};
use crate::workspace;

/// Prints the state of the cluster.
///
/// # Errors
/// As [`ownership::find`].
pub(crate) fn status() -> Result<()> {
    let Some(owner) = ownership::find(workspace::root())? else {
        println!("no cluster: cargo xtask kube up");
        return Ok(());
    };
    let plan = Plan::new(owner.nodes);
    match owner.stage {
        Stage::Starting => println!("a cluster that never became Ready; `kube down` removes it"),
        Stage::Ready if owner.before_boot() => {
            println!("a cluster from before the last reboot; `kube down` removes it");
        }
        Stage::Ready => println!("a cluster of {} nodes", owner.nodes),
    }
    for process in newest(record::all_started()) {
        let state = if process.id.runs() { "running" } else { "ended" };
        println!("  {:26} {:>7}  {state}", process.name, process.id.pid);
    }
    println!("logs: {}", plan.shown.join("logs").display());
    let table = ["get", "nodes,pods", "--all-namespaces", "--output=wide"];
    match kubectl(&plan, &table, "") {
        Ok(table) => print!("{table}"),
        Err(error) => println!("the API does not answer: {error:#}"),
    }
    Ok(())
}

/// The last start of each name, sorted by name.
pub(crate) fn newest(started: Vec<Started>) -> Vec<Started> {
    let by_name: BTreeMap<String, Started> =
        started.into_iter().map(|each| (each.name.clone(), each)).collect();
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::record::ProcessId;

    #[test]
    fn a_process_started_twice_is_shown_once_with_its_last_id() {
        let start = |pid| Started { name: "etcd".into(), id: ProcessId { pid, start_ticks: 1 } };
        assert_eq!(newest(vec![start(1), start(2)]), [start(2)]);
    }
}
