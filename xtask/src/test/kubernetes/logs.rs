//! After a failure: writes the log of every pod to a file, and prints the end of each with the
//! state of the cluster.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::access::folder;
use crate::command;

/// Lines printed of each pod's log.
const LINES: usize = 25;

/// Prints what the cluster reports.
pub(super) fn show() {
    println!("\n-- the cluster after the failure --");
    for arguments in [
        ["get", "pods", "--all-namespaces", "--output=wide"].as_slice(),
        &["get", "cacheclusters,cachegroups", "--all-namespaces"],
        &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
    ] {
        match kubectl(arguments) {
            Ok(text) => println!("{}\n", command::last_lines(&text, 3 * LINES)),
            Err(error) => println!("{error:#}\n"),
        }
    }
    if let Err(error) = save_pod_logs() {
        println!("no logs of pods: {error:#}");
    }
    println!("logs: {}", folder().join("logs").display());
}

fn save_pod_logs() -> Result<()> {
    let list = ["get", "pods", "--all-namespaces", "--output=json"];
    let list: Value = serde_json::from_str(&kubectl(&list)?)?;
    let folder = folder().join("logs").join("pods");
    fs::create_dir_all(&folder)?;
    for (namespace, pod) in pods(&list) {
        let arguments =
            ["logs", "--namespace", &namespace, &pod, "--all-containers", "--ignore-errors"];
        let text = kubectl(&arguments).unwrap_or_else(|e| format!("{e:#}"));
        let file = folder.join(format!("{namespace}.{pod}.log"));
        fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
        println!("-- {} --\n{}", file.display(), command::last_lines(&text, LINES));
    }
    Ok(())
}

fn kubectl(arguments: &[&str]) -> Result<String> {
    command::output(super::access::kubectl(arguments).arg("--request-timeout=10s"))
}

/// Namespace and name of each pod of a list.
fn pods(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_listed_with_their_namespaces() {
        let list = json!({"items": [{"metadata": {"namespace": "a", "name": "b"}}]});
        assert_eq!(pods(&list), [("a".to_owned(), "b".to_owned())]);
        assert!(pods(&json!({})).is_empty());
    }
}
