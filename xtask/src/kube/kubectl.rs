//! Questions to the cluster, through kubectl.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::plan::Plan;
use crate::command;
use crate::tools::Tool;

/// Longer than any step takes on a machine that is busy with builds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Runs kubectl as the administrator and returns its output.
///
/// # Errors
/// The output of kubectl.
pub(crate) fn kubectl(plan: &Plan, arguments: &[&str], input: &str) -> Result<String> {
    let mut kubectl = Command::new(plan.program(Tool::Kubectl.name()));
    kubectl.env("KUBECONFIG", plan.kubeconfig());
    command::fed(kubectl.arg("--request-timeout=10s").args(arguments), input)
}

/// Whether a node's condition Ready is True.
pub(crate) fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|each| each["type"] == "Ready" && each["status"] == "True")
    })
}
