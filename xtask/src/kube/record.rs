//! Records what `kube up` does to the machine, before it does it: which clone created the cluster,
//! which kernel settings may change, which processes were started.
//!
//! A process is identified by its id and start time, so a reused id is never mistaken for it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::plan::{HOME, NETNS_FOLDER, Plan};

/// Kernel settings that a starting kubelet changes for the whole machine.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// How far `up` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// `up` is running, or was interrupted.
    Starting,
    /// All nodes were Ready.
    Ready,
}

/// The owner record. Its file is created first and removed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Folder of the clone that created the cluster.
    pub(crate) project: PathBuf,
    /// Folder with the kubeconfigs and programs for users.
    pub(crate) shown: PathBuf,
    /// The kernel's boot id.
    pub(crate) boot: String,
    /// The `kube up` process.
    pub(crate) up: ProcessId,
    pub(crate) nodes: u8,
    pub(crate) stage: Stage,
    /// Kernel settings before `up`, by path below /proc/sys.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Whether the folder of network namespaces existed before. The first `ip netns add` creates
    /// and mounts it.
    #[serde(default)]
    pub(crate) netns_before: bool,
}

/// A process id that is not confused with a later process of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// A started process; one line of the process list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Name of the [`super::process::Process`].
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) id: ProcessId,
}

impl ProcessId {
    /// The process that has this number now, if any.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start_ticks: start_ticks(&stat)? })
    }

    /// Whether it is running. A zombie is not.
    pub(crate) fn runs(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        start_ticks(&stat) == Some(self.start_ticks)
            && !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    }

    /// Whether it exists, running or as a zombie.
    pub(crate) fn exists(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills this process and no other: it opens the handle first, then compares the start time.
    pub(crate) fn kill(self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle.filter(|_| self.runs()) {
            // It may end by itself at this moment.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Field 22 of /proc/PID/stat. Field 2, the name, may contain blanks and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

impl Owner {
    /// The record of a cluster that this process is about to create.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(crate) fn new(project: &Path, plan: &Plan) -> Result<Self> {
        let up = ProcessId::of(std::process::id()).context("read /proc of this process")?;
        let sysctls = SYSCTLS
            .into_iter()
            .filter_map(|name| {
                let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect();
        let (project, stage) = (project.to_path_buf(), Stage::Starting);
        let netns_before = Path::new(NETNS_FOLDER).exists();
        let shown = plan.shown.clone();
        let nodes = u8::try_from(plan.nodes.len()).context("count the nodes")?;
        Ok(Self { project, shown, boot: boot()?, up, nodes, stage, sysctls, netns_before })
    }

    /// Reads the record, if there is one.
    ///
    /// # Errors
    /// When it exists but cannot be parsed.
    pub(crate) fn read() -> Result<Option<Self>> {
        match fs::read_to_string(file()) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| {
                format!("{} is not an owner record of this tool", file().display())
            })?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file().display())),
        }
    }

    /// Creates the record. Of two concurrent calls one succeeds, and the file is never partial.
    ///
    /// # Errors
    /// When there is one already.
    pub(crate) fn claim(&self) -> Result<()> {
        fs::create_dir_all(HOME).with_context(|| format!("create {HOME}"))?;
        let draft = Path::new(HOME).join(format!("owner.{}", self.up.pid));
        fs::write(&draft, self.text()?)?;
        let linked = fs::hard_link(&draft, file());
        fs::remove_file(&draft)?;
        linked
            .with_context(|| format!("create {}: is another `kube up` running?", file().display()))
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let draft = Path::new(HOME).join("owner.draft");
        fs::write(&draft, self.text()?)?;
        fs::rename(&draft, file()).context("write the owner record")
    }

    /// Restores the kernel settings.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub(crate) fn restore(&self) -> Result<()> {
        for (name, value) in &self.sysctls {
            let path = Path::new("/proc/sys").join(name);
            if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value) {
                fs::write(&path, value).with_context(|| format!("restore {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Whether the machine was rebooted after the cluster was created.
    pub(crate) fn before_boot(&self) -> bool {
        boot().is_ok_and(|now| now != self.boot)
    }

    fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

fn file() -> PathBuf {
    Path::new(HOME).join("owner.json")
}

fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(id.trim().to_owned())
}

fn list() -> PathBuf {
    Path::new(HOME).join("processes.jsonl")
}

/// Appends a process to the list.
///
/// # Errors
/// When it has ended already, or the list cannot be written.
pub(crate) fn started(name: &str, pid: u32) -> Result<Started> {
    let Some(id) = ProcessId::of(pid) else { bail!("{name} ended immediately") };
    let started = Started { name: name.to_owned(), id };
    let mut list: File = OpenOptions::new().create(true).append(true).open(list())?;
    writeln!(list, "{}", serde_json::to_string(&started)?)?;
    Ok(started)
}

/// All processes on the list; a half-written last line is ignored.
pub(crate) fn all_started() -> Vec<Started> {
    parse_list(&fs::read_to_string(list()).unwrap_or_default())
}

fn parse_list(text: &str) -> Vec<Started> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(start_ticks(stat), Some(987_654));
    }

    #[test]
    fn a_reused_process_id_is_not_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let real = ProcessId::of(child.id()).expect("it runs");
        let earlier = ProcessId { start_ticks: real.start_ticks - 1, ..real };
        earlier.kill();
        assert!(real.runs() && !earlier.runs());
        real.kill();
        assert!(!child.wait().expect("it ends").success());
        assert!(!real.runs());
    }

    #[test]
    fn a_half_written_last_line_is_ignored() {
        let text = "{\"name\":\"etcd\",\"pid\":7,\"start_ticks\":9}\n{\"name\":\"kub";
        let id = ProcessId { pid: 7, start_ticks: 9 };
        assert_eq!(parse_list(text), [Started { name: "etcd".into(), id }]);
    }
}
