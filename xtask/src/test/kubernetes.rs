//! The end-to-end tests: images built and loaded, a throw-away cluster brought up, the tests of
//! `e2e/` run in its first node's network, the cluster taken down again.
//!
//! It never uses a cluster that it did not bring up, and takes its own down whatever happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::ahead::Ahead;
use super::report::{BuildClock, Count, Outcome};
use super::{cargo_test, counted};
use crate::compile::{self, TestProgram};
use crate::image::{self, Archive};
use crate::tools::{self, Tool};
use crate::{command, packages, workspace};

/// How many nodes: the fewest on which one may die and two remain.
const NODES: &str = "3";
/// The program of `e2e/` that holds the tests.
const TESTS: [&str; 2] = ["--test", "kubernetes"];
/// How much of a pod's log is shown after a failure; all of it is kept in a file.
const LINES: usize = 25;
/// What the tests start beside the cluster.
const NEEDED: [packages::Needed; 1] =
    [packages::Needed { file: "prometheus", package: "prometheus" }];

/// Begins the build of the Go programs, which takes longest, unless the tier cannot run.
pub(super) fn ahead() -> Ahead {
    if obstacle().is_some() {
        return Ahead::default();
    }
    // The integration tests need etcd first.
    Ahead::start([("tools", vec![this(&["tools", "etcd"]), this(&["tools"])])])
}

/// Brings everything up, runs the tests, takes everything down.
pub(super) fn run(ahead: &mut Ahead, building: &mut BuildClock, filters: &[String]) -> Outcome {
    building.time(|| ahead.wait());
    obstacle().map_or_else(|| counted(whole(building, filters)), |why| Outcome::NotRun(why.into()))
}

/// Why the tier cannot run here and now.
fn obstacle() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        Some("it makes network namespaces, so it has to be run as root")
    } else if place().join("env.json").exists() {
        Some("a cluster stands already and may be in use: `cargo xtask kube down` first")
    } else {
        None
    }
}

fn whole(building: &mut BuildClock, filters: &[String]) -> Result<Count> {
    packages::ensure(&NEEDED)?;
    let (images, tests) = building.time(build)?;
    image::show(&images)?;
    let _cluster = Cluster::up()?;
    let archives: Vec<&Path> = images.iter().map(|image| image.file.as_path()).collect();
    command::shown(kube(&["load"]).args(archives))?;
    let count = cargo_test::run(&mut test_command(&tests, filters))?;
    if count.failed > 0 {
        show_logs();
    }
    Ok(count)
}

/// Everything is built outside the cluster's network: inside there is no way to a registry of crates.
fn build() -> Result<(Vec<Archive>, TestProgram)> {
    tools::ensure(&[Tool::Kubectl, Tool::Helm, Tool::Grpcurl, Tool::Etcdctl])?;
    let tests = compile::targets(&TESTS)?.tests.pop().context("cargo built no test program")?;
    Ok((image::build_for_tests()?, tests))
}

/// The test program, inside the network of the cluster's first node.
fn test_command(tests: &TestProgram, filters: &[String]) -> Command {
    let mut command = kube(&["exec", "--"]);
    command.arg(&tests.file);
    // The tests share one cluster and print the figures that the change's description quotes.
    command.args(["--test-threads", "1", "--nocapture"]).args(filters);
    command.env("LARDER_E2E_ENV", place().join("env.json"));
    command.env("LARDER_E2E_TOOLS", place().join("bin"));
    command
}

/// A standing cluster, taken down when dropped.
struct Cluster;

impl Cluster {
    fn up() -> Result<Self> {
        let begin = Instant::now();
        // Made first: a cluster that came up half-way is taken down too.
        let cluster = Self;
        command::shown(&mut kube(&["up", "--nodes", NODES]))?;
        // Writes the scripts that enter the cluster's network for each program.
        command::output(&mut kube(&["env"]))?;
        println!("the cluster stands after {:.0} s", begin.elapsed().as_secs_f64());
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = command::shown(&mut kube(&["down"])) {
            println!("error: {error:#}; `cargo xtask kube down` can be repeated");
        }
    }
}

/// This program again, with the verb `kube`.
fn kube(arguments: &[&str]) -> Command {
    this(&[&["kube"], arguments].concat())
}

/// This program again. By way of /proc, because a build of the whole workspace may have put a new
/// file in the old one's place.
fn this(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).args(arguments);
    command
}

/// Where `kube up` leaves what others need to know.
fn place() -> PathBuf {
    workspace::target().join("kube")
}

/// Keeps the log of every pod, and shows the end of each with what the API knows.
fn show_logs() {
    println!("\n-- what the cluster says --");
    for arguments in [
        ["get", "pods", "--all-namespaces", "--output=wide"].as_slice(),
        &["get", "cacheclusters,cachegroups", "--all-namespaces"],
        &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
    ] {
        match command::output(&mut kubectl(arguments)) {
            Ok(text) => println!("{}\n", command::last_lines(&text, 3 * LINES)),
            Err(error) => println!("{error:#}\n"),
        }
    }
    if let Err(error) = pod_logs() {
        println!("no logs of pods: {error:#}");
    }
    println!("logs: {}", place().join("logs").display());
}

fn pod_logs() -> Result<()> {
    let list = ["get", "pods", "--all-namespaces", "--output=json"];
    let list: Value = serde_json::from_str(&command::output(&mut kubectl(&list))?)?;
    let folder = place().join("logs").join("pods");
    fs::create_dir_all(&folder)?;
    for (namespace, pod) in pods(&list) {
        let arguments =
            ["logs", "--namespace", &namespace, &pod, "--all-containers", "--ignore-errors"];
        let text = command::output(&mut kubectl(&arguments)).unwrap_or_else(|e| format!("{e:#}"));
        let file = folder.join(format!("{namespace}.{pod}.log"));
        fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
        println!("-- {} --\n{}", file.display(), command::last_lines(&text, LINES));
    }
    Ok(())
}

fn kubectl(arguments: &[&str]) -> Command {
    let mut kubectl = Command::new(place().join("bin/kubectl"));
    kubectl.arg("--request-timeout=10s").args(arguments);
    kubectl
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
    fn pods_are_named_with_their_namespaces() {
        let list = json!({"items": [{"metadata": {"namespace": "a", "name": "b"}}]});
        assert_eq!(pods(&list), [("a".to_owned(), "b".to_owned())]);
        assert!(pods(&json!({})).is_empty());
    }
}
