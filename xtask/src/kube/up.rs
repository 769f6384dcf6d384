//! `kube up`: from nothing to Ready nodes, in the order in which the parts need each other.
//!
//! Nothing is made before the mark of ownership stands, so `down` always knows what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::plan::{Plan, secret, setting};
use super::record::{Owner, Stage};
use super::start::{self, Starter};
use super::{cgroup, down, network, ownership, pki, process, settings};
use crate::packages::{self, Needed};
use crate::tools::{self, Binaries, Tool};
use crate::{command, workspace};

/// What the machine must have, and the Debian package that brings it.
const NEEDED: [Needed; 9] = [
    Needed { file: "containerd", package: "containerd" },
    Needed { file: "ctr", package: "containerd" },
    Needed { file: "runc", package: "runc" },
    Needed { file: "/usr/lib/cni/ptp", package: "containernetworking-plugins" },
    Needed { file: "ip", package: "iproute2" },
    Needed { file: "iptables", package: "iptables" },
    Needed { file: "conntrack", package: "conntrack" },
    Needed { file: "openssl", package: "openssl" },
    Needed { file: "nsenter", package: "util-linux" },
];

/// The programs of a cluster.
const PROGRAMS: [Tool; 9] = [
    Tool::KubeApiserver,
    Tool::Kubelet,
    Tool::KubeControllerManager,
    Tool::KubeScheduler,
    Tool::KubeProxy,
    Tool::Kubectl,
    Tool::LocalProvisioner,
    Tool::Etcd,
    Tool::Coredns,
];

/// Longer than anything takes on a machine that is busy with builds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Builds what a cluster is made of, as far as it is missing: its programs and the pause image.
///
/// # Errors
/// As [`tools::ensure`].
fn prepare() -> Result<(Binaries, PathBuf)> {
    Ok((tools::ensure(&PROGRAMS)?, tools::pause_image()?))
}

/// Makes a cluster of `nodes` nodes; one that stands already is left as it is.
///
/// # Errors
/// One line when the machine lacks something or the names are taken; otherwise the words of the
/// part that failed. What was begun is removed again unless `keep` is set.
pub(crate) fn up(nodes: u8, keep: bool) -> Result<()> {
    let typed = Instant::now();
    if !rustix::process::geteuid().is_root() {
        bail!("`kube up` makes network namespaces and mounts: run it as root");
    }
    packages::ensure(&NEEDED)?;
    let plan = Plan::new(nodes);
    if let Some(owner) = ownership::ours(workspace::root())? {
        if owner.stage == Stage::Ready && down::whole(&owner) {
            if owner.nodes != nodes {
                let has = owner.nodes;
                bail!("a cluster of {has} nodes stands already: `cargo xtask kube down` first");
            }
            println!("the cluster stands already: eval \"$(cargo xtask kube env)\"");
            return Ok(());
        }
        println!("removing what an earlier cluster left");
        down::down(workspace::root())?;
    }
    let (binaries, pause) = prepare()?;
    let built = Instant::now();
    let mut owner = Owner::new(workspace::root(), &plan)?;
    owner.claim()?;
    let made = make(&plan, &binaries, &pause).and_then(|()| {
        owner.stage = Stage::Ready;
        owner.write()
    });
    if let Err(error) = made {
        if !keep {
            down::down(workspace::root()).context("clean up after a failed `kube up`")?;
        }
        return Err(error);
    }
    println!(
        "{nodes} nodes Ready after {:.1} s ({:.1} s since the command was typed)",
        built.elapsed().as_secs_f64(),
        typed.elapsed().as_secs_f64(),
    );
    println!("  eval \"$(cargo xtask kube env)\" && kubectl get nodes");
    Ok(())
}

fn make(plan: &Plan, binaries: &Binaries, pause: &Path) -> Result<()> {
    let hierarchies = cgroup::hierarchies()?;
    cgroup::make(plan, &hierarchies)?;
    write_files(plan, binaries)?;
    network::make(plan)?;
    let mut starter = Starter::new(plan, &hierarchies);
    starter.start(&process::etcd(binaries))?;
    starter.start(&process::apiserver(plan, binaries))?;
    let mut holders = Vec::new();
    for node in &plan.nodes {
        holders.push((*node, starter.boot(*node, pause)?));
    }
    let api = Tool::KubeApiserver.name();
    starter
        .wait("the API", api, PATIENCE, || kubectl(plan, &["get", "--raw=/readyz"], "").is_ok())?;
    starter.start(&process::controller_manager(binaries))?;
    starter.start(&process::scheduler(binaries))?;
    for (node, holder) in holders {
        starter.join(node, holder, binaries)?;
    }
    kubectl(plan, &["apply", "--filename=-"], &settings::first_objects())?;
    starter.start(&process::local_provisioner(binaries))?;
    let coredns = process::coredns(binaries);
    let dns = starter.start(&coredns)?;
    let kubelet = format!("kubelet-{}", plan.first().name());
    starter.wait("nodes Ready", &kubelet, PATIENCE, || {
        kubectl(plan, &["get", "nodes", "--output=json"], "")
            .is_ok_and(|list| ready(&list) == plan.nodes.len())
    })?;
    starter.wait("the DNS", &coredns.name, PATIENCE, || {
        fs::read_to_string(format!("/proc/{dns}/net/tcp")).is_ok_and(|table| listens(&table, 8181))
    })?;
    let controllers = Tool::KubeControllerManager.name();
    // A pod applied before its service account exists is refused.
    starter.wait("the first service account", controllers, PATIENCE, || {
        kubectl(plan, &["get", "serviceaccount", "default"], "").is_ok()
    })
}

fn write_files(plan: &Plan, binaries: &Binaries) -> Result<()> {
    let pki = secret("").join("");
    for folder in [&pki, &setting(""), &plan.shown.join("logs"), &plan.shown.join("bin")] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::set_permissions(&pki, fs::Permissions::from_mode(0o700))?;
    pki::make(plan, &pki)?;
    for user in ["controller-manager", "scheduler", "proxy", "coredns", "local-provisioner"] {
        fs::write(secret(&format!("{user}.kubeconfig")), settings::kubeconfig(plan, user))?;
    }
    fs::write(setting("Corefile"), settings::corefile(plan))?;
    fs::write(setting("resolv.conf"), settings::resolv_conf(plan))?;
    for node in &plan.nodes {
        let name = node.name();
        let user = format!("kubelet-{name}");
        fs::write(secret(&format!("{user}.kubeconfig")), settings::kubeconfig(plan, &user))?;
        fs::write(setting(&format!("kubelet-{name}.json")), settings::kubelet(plan, *node))?;
        fs::write(setting(&format!("containerd-{name}.toml")), settings::containerd(*node))?;
        let cni = setting(&format!("cni-{name}"));
        fs::create_dir_all(&cni)?;
        fs::write(cni.join("larder.conflist"), settings::cni(*node))?;
        start::make_disk(*node)?;
    }
    fs::write(plan.kubeconfig(), settings::kubeconfig(plan, "admin"))?;
    fs::set_permissions(plan.kubeconfig(), fs::Permissions::from_mode(0o600))?;
    fs::write(plan.shown.join("env.json"), settings::environment(plan))?;
    write_wrapper(plan, "kubectl", &format!("'{}'", binaries.path(Tool::Kubectl).display()))?;
    write_wrapper(plan, "in-cluster", "")?;
    Ok(())
}

/// Writes one script into the folder that `kube env` puts on the PATH.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_wrapper(plan: &Plan, name: &str, program: &str) -> Result<()> {
    let file = plan.shown.join("bin").join(name);
    let hierarchies = cgroup::hierarchies()?;
    let tracking = &cgroup::tracking(&hierarchies).root;
    fs::write(&file, settings::wrapper(plan, tracking, program))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Runs kubectl as the administrator, inside the cluster's network, and returns what it printed.
///
/// # Errors
/// kubectl's words.
pub(crate) fn kubectl(plan: &Plan, arguments: &[&str], input: &str) -> Result<String> {
    let mut kubectl = Command::new(plan.shown.join("bin/kubectl"));
    command::fed(kubectl.arg("--request-timeout=10s").args(arguments), input)
}

/// How many nodes of a list are Ready.
fn ready(list: &str) -> usize {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    list["items"].as_array().map_or(0, |nodes| nodes.iter().filter(|node| is_ready(node)).count())
}

/// Whether a node says that it is Ready.
pub(crate) fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|each| each["type"] == "Ready" && each["status"] == "True")
    })
}

/// Whether a table of TCP sockets, as in /proc/PID/net/tcp, has a listener on a port.
fn listens(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        local.is_some_and(|local| local.ends_with(&end)) && state == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_with_a_true_ready_condition_count() {
        let node = |status| {
            serde_json::json!({"status": {"conditions": [
                {"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": status},
            ]}})
        };
        let list = serde_json::json!({"items": [node("True"), node("Unknown"), node("False"), {}]});
        assert_eq!(ready(&list.to_string()), 1);
        assert_eq!(ready("not JSON"), 0);
    }

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0100007F:1FF5 00000000:0000 0A 00000000:00000000\n\
                     1: 0100007F:0050 0100007F:9999 01 00000000:00000000\n";
        assert!(listens(table, 8181));
        assert!(!listens(table, 80), "connected, not listening");
        assert!(!listens(table, 443));
    }
}
