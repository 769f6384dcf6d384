//! `kube up`: creates a cluster and waits for Ready nodes, in the order of the parts' dependencies.
//!
//! The owner record is written before anything else is created, so `down` always finds the rest.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::kubectl::{PATIENCE, is_ready, kubectl};
use super::plan::{Plan, secret, setting};
use super::record::{Owner, Stage};
use super::start::{self, Starter};
use super::{cgroup, down, forward, network, ownership, pki, process, settings};
use crate::packages::{self, Needed};
use crate::tools::{self, Binaries, Tool};
use crate::workspace;

/// Programs that the machine must have, and the Debian packages that contain them.
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

/// The programs of a cluster and of its users.
const PROGRAMS: [Tool; 10] = [
    Tool::KubeApiserver,
    Tool::Kubelet,
    Tool::KubeControllerManager,
    Tool::KubeScheduler,
    Tool::KubeProxy,
    Tool::Kubectl,
    Tool::Helm,
    Tool::LocalProvisioner,
    Tool::Etcd,
    Tool::Coredns,
];

/// Builds what is missing of a cluster's programs and its pause image.
///
/// # Errors
/// As [`tools::ensure`].
fn prepare() -> Result<(Binaries, PathBuf)> {
    Ok((tools::ensure(&PROGRAMS)?, tools::pause_image()?))
}

/// True if [`up`] has nothing to build.
pub(crate) fn is_built() -> bool {
    PROGRAMS.iter().chain([&Tool::Pause]).all(|tool| tools::built(*tool).is_some())
}

/// Creates a cluster of `nodes` nodes, unless one exists.
///
/// # Errors
/// When the machine lacks a program, the cluster's names are in use, or a part does not come up. A
/// partial cluster is removed unless `keep` is set.
pub(crate) fn up(nodes: u8, keep: bool) -> Result<()> {
    let begin = Instant::now();
    if !rustix::process::geteuid().is_root() {
        bail!("`kube up` creates network namespaces and mounts: run it as root");
    }
    packages::ensure(&NEEDED)?;
    let plan = Plan::new(nodes);
    if let Some(owner) = ownership::find(workspace::root())? {
        if owner.stage == Stage::Ready && down::is_intact(&owner) {
            if owner.nodes != nodes {
                let has = owner.nodes;
                bail!("there is a cluster of {has} nodes: run `cargo xtask kube down` first");
            }
            println!("the cluster exists: eval \"$(cargo xtask kube env)\"");
            return Ok(());
        }
        println!("removing the remains of an earlier cluster");
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
        "{nodes} nodes Ready after {:.1} s ({:.1} s with builds)",
        built.elapsed().as_secs_f64(),
        begin.elapsed().as_secs_f64(),
    );
    println!("  eval \"$(cargo xtask kube env)\" && kubectl get nodes");
    Ok(())
}

fn make(plan: &Plan, binaries: &Binaries, pause: &Path) -> Result<()> {
    let hierarchies = cgroup::hierarchies()?;
    cgroup::make(plan, &hierarchies)?;
    let loopback = forward::listen()?;
    write_files(plan, binaries, loopback.local_addr()?)?;
    network::make(plan)?;
    let mut starter = Starter::new(plan, &hierarchies);
    starter.start(&process::etcd(binaries))?;
    starter.start(&process::apiserver(plan, binaries))?;
    starter.start_with(&process::forwarder(plan), OwnedFd::from(loopback))?;
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
            .is_ok_and(|list| count_ready(&list) == plan.nodes.len())
    })?;
    starter.wait("the DNS server", &coredns.name, PATIENCE, || {
        fs::read_to_string(format!("/proc/{dns}/net/tcp")).is_ok_and(|table| listens(&table, 8181))
    })?;
    let controllers = Tool::KubeControllerManager.name();
    // The API server refuses a pod whose service account does not exist yet.
    starter.wait("the first service account", controllers, PATIENCE, || {
        kubectl(plan, &["get", "serviceaccount", "default"], "").is_ok()
    })
}

fn write_files(plan: &Plan, binaries: &Binaries, loopback: SocketAddr) -> Result<()> {
    let pki = secret("").join("");
    for folder in [&pki, &setting(""), &plan.shown.join("logs"), &plan.shown.join("bin")] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::set_permissions(&pki, fs::Permissions::from_mode(0o700))?;
    pki::make(plan, &pki)?;
    for user in ["controller-manager", "scheduler", "proxy", "coredns", "local-provisioner"] {
        fs::write(secret(&format!("{user}.kubeconfig")), settings::kubeconfig(plan.api(), user))?;
    }
    fs::write(setting("Corefile"), settings::corefile(plan))?;
    fs::write(setting("resolv.conf"), settings::resolv_conf(plan))?;
    for node in &plan.nodes {
        let name = node.name();
        let user = format!("kubelet-{name}");
        fs::write(secret(&format!("{user}.kubeconfig")), settings::kubeconfig(plan.api(), &user))?;
        fs::write(setting(&format!("kubelet-{name}.json")), settings::kubelet(plan, *node))?;
        fs::write(setting(&format!("containerd-{name}.toml")), settings::containerd(*node))?;
        let cni = setting(&format!("cni-{name}"));
        fs::create_dir_all(&cni)?;
        fs::write(cni.join("larder.conflist"), settings::cni(*node))?;
        start::make_disk(*node)?;
    }
    for (file, server) in [(plan.kubeconfig(), loopback), (plan.inside_kubeconfig(), plan.api())] {
        fs::write(&file, settings::kubeconfig(server, "admin"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    }
    fs::write(plan.shown.join("env.json"), settings::environment(plan))?;
    for tool in [Tool::Kubectl, Tool::Helm] {
        symlink(binaries.path(tool), plan.program(tool.name())).context("link a program")?;
    }
    write_wrapper(plan, "in-cluster", "")?;
    Ok(())
}

/// Writes a script that runs a program inside the cluster's network, into the folder that `kube
/// env` adds to the PATH.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_wrapper(plan: &Plan, name: &str, program: &str) -> Result<()> {
    let file = plan.program(name);
    let hierarchies = cgroup::hierarchies()?;
    let tracking = &cgroup::tracking(&hierarchies).root;
    fs::write(&file, settings::wrapper(plan, tracking, program))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Number of Ready nodes in a list.
fn count_ready(list: &str) -> usize {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    list["items"].as_array().map_or(0, |nodes| nodes.iter().filter(|node| is_ready(node)).count())
}

/// Whether a table of TCP sockets (/proc/PID/net/tcp) has a listener on a port.
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
        assert_eq!(count_ready(&list.to_string()), 1);
        assert_eq!(count_ready("not JSON"), 0);
    }

    #[test]
    fn a_connection_is_not_taken_for_a_listener() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0100007F:1FF5 00000000:0000 0A 00000000:00000000\n\
                     1: 0100007F:0050 0100007F:9999 01 00000000:00000000\n";
        assert!(listens(table, 8181));
        assert!(!listens(table, 80), "connected, not listening");
        assert!(!listens(table, 443));
    }
}
