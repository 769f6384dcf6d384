//! Starts the cluster's processes and watches them while `up` waits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::plan::{Node, Plan};
use super::process::{self, Process};
use super::{cgroup, load, record};
use crate::command;
use crate::tools::Binaries;

/// Poll interval while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Starts processes for one plan.
pub(crate) struct Starter<'a> {
    plan: &'a Plan,
    tracking: PathBuf,
    children: Vec<(String, Child)>,
}

impl<'a> Starter<'a> {
    pub(crate) fn new(plan: &'a Plan, hierarchies: &[cgroup::Hierarchy]) -> Self {
        let tracking = cgroup::tracking(hierarchies).root.clone();
        Self { plan, tracking, children: Vec::new() }
    }

    /// Starts a process, writes its output to the log of its name, and records it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&mut self, process: &Process) -> Result<u32> {
        self.start_with(process, Stdio::null())
    }

    /// As [`Self::start`], with something other than an empty standard input.
    pub(crate) fn start_with(&mut self, process: &Process, stdin: impl Into<Stdio>) -> Result<u32> {
        let name = &process.name;
        let log = File::create(self.plan.log(name)).with_context(|| format!("log of {name}"))?;
        let line = process::launch(process, &self.tracking);
        let child = Command::new(&line[0])
            .args(&line[1..])
            .current_dir("/")
            .stdin(stdin)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let pid = child.id();
        self.children.push((name.clone(), child));
        record::started(name, pid)?;
        Ok(pid)
    }

    /// Waits until `holds` returns true. Fails early when a started process has ended.
    ///
    /// # Errors
    /// The last lines of the log of `whose`, or of the process that ended.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        whose: &str,
        limit: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !holds() {
            for (name, child) in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("{name} ended ({status}):\n{}", tail(self.plan, name));
                }
            }
            if Instant::now() > deadline {
                let limit = limit.as_secs();
                bail!(
                    "{what}: not within {limit} s; the log of {whose} ends:\n{}",
                    tail(self.plan, whose)
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Starts a node's mount namespace and container runtime. Returns the process id of the
    /// namespace's holder.
    ///
    /// # Errors
    /// When either does not come up.
    pub(crate) fn boot(&mut self, node: Node, pause: &Path) -> Result<u32> {
        let held = node.folder().join("held");
        let holder_process = process::holder(node);
        let holder = self.start(&holder_process)?;
        let limit = Duration::from_secs(20);
        self.wait("a node's mounts", &holder_process.name, limit, || held.exists())?;
        let containerd = process::containerd(node, holder);
        self.start(&containerd)?;
        self.wait("containerd", &containerd.name, limit, || answers(node))?;
        load::into_node(node, pause)?;
        Ok(holder)
    }

    /// Starts the processes that make a booted node part of the cluster.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub(crate) fn join(&mut self, node: Node, holder: u32, binaries: &Binaries) -> Result<()> {
        self.start(&process::kubelet(node, holder, binaries))?;
        self.start(&process::proxy(node, holder, binaries))?;
        Ok(())
    }
}

/// Creates a node's empty disk.
///
/// # Errors
/// When a folder cannot be made.
pub(crate) fn make_disk(node: Node) -> Result<()> {
    for folder in ["lib/larder-kube", "log", "opt", "run", "volumes"] {
        fs::create_dir_all(node.folder().join(folder)).context("make a node's disk")?;
    }
    // kubelet and containerd create their other folders themselves.
    for folder in ["lib/kubelet", "lib/cni"] {
        fs::create_dir_all(node.folder().join(folder)).context("make a node's disk")?;
    }
    Ok(())
}

fn answers(node: Node) -> bool {
    node.containerd_socket().exists() && command::output(load::ctr(node).arg("version")).is_ok()
}

fn tail(plan: &Plan, process: &str) -> String {
    let log = plan.log(process);
    let text = fs::read_to_string(&log).unwrap_or_default();
    format!("{}\n(whole log: {})", command::last_lines(text.trim_end(), 12), log.display())
}
