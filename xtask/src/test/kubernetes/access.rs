//! How the tier reaches the cluster that `kube up` made.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace;

/// Where `kube up` writes what tests need.
pub(super) fn folder() -> PathBuf {
    workspace::target().join("kube")
}

pub(super) fn kubectl(arguments: &[&str]) -> Command {
    let mut kubectl = Command::new(folder().join("bin/kubectl"));
    kubectl.env("KUBECONFIG", folder().join("admin.kubeconfig"));
    kubectl.args(arguments);
    kubectl
}
