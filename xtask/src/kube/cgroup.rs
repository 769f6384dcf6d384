//! The cluster's control groups: created before any process starts, read to find the cluster's
//! processes, removed at the end. Supports cgroup v1, v2 and both mounted together.
//!
//! Membership proves ownership: every process of the cluster joins the group before it executes a
//! program, so each process below the group belongs to the cluster.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::plan::{CGROUP, Plan};

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Mount point.
    pub(crate) root: PathBuf,
    /// Whether it is cgroup v2.
    pub(crate) unified: bool,
}

/// The machine's hierarchies.
///
/// # Errors
/// When the mounts cannot be read or contain no hierarchy.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let found = parse(&mounts);
    if found.is_empty() {
        bail!("no control groups are mounted below /sys/fs/cgroup");
    }
    Ok(found)
}

/// Hierarchies with the whole machine's groups, without a container runtime's partial views.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        // 36 35 98:0 /root /mount/point options... - type source superoptions
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(_), Some(point)) = (left.next(), left.next()) else { continue };
        let unified = match right.split(' ').next() {
            Some("cgroup") => false,
            Some("cgroup2") => true,
            _ => continue,
        };
        let root = PathBuf::from(point);
        if root.starts_with("/sys/fs/cgroup") && found.iter().all(|each| each.root != root) {
            found.push(Hierarchy { root, unified });
        }
    }
    found
}

/// The hierarchy by which processes are found: in v1 `pids`, which accounts no resources; v2 has
/// only one.
pub(crate) fn tracking(hierarchies: &[Hierarchy]) -> &Hierarchy {
    let pids = hierarchies.iter().find(|each| !each.unified && each.root.ends_with("pids"));
    pids.unwrap_or_else(|| hierarchies.iter().find(|each| each.unified).unwrap_or(&hierarchies[0]))
}

/// Creates a cluster's groups in every hierarchy.
///
/// # Errors
/// When the kernel refuses one.
pub(crate) fn make(plan: &Plan, hierarchies: &[Hierarchy]) -> Result<()> {
    for hierarchy in hierarchies {
        group(hierarchy, CGROUP)?;
        // The cluster gets the CPU weight of eight default groups, so a busy machine slows it but
        // does not starve it. Only some hierarchies have these files.
        write_if_there(&hierarchy.root.join(CGROUP).join("cpu.shares"), "8192")?;
        write_if_there(&hierarchy.root.join(CGROUP).join("cpu.weight"), "800")?;
        for node in &plan.nodes {
            group(hierarchy, &node.cgroup())?;
        }
    }
    let tracking = tracking(hierarchies).root.clone();
    for leaf in plan.nodes.iter().map(|node| format!("{}/system", node.cgroup())) {
        fs::create_dir_all(tracking.join(leaf)).context("create a node's control group")?;
    }
    fs::create_dir_all(tracking.join(CGROUP).join("control")).context("create a control group")
}

/// Creates one group and enables the available controllers for its children.
fn group(hierarchy: &Hierarchy, name: &str) -> Result<()> {
    let folder = hierarchy.root.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let parent = folder.parent().expect("below the root");
    if hierarchy.unified {
        for level in [parent, &folder] {
            let controllers = fs::read_to_string(level.join("cgroup.controllers"))?;
            let enabled: Vec<_> =
                controllers.split_whitespace().map(|each| format!("+{each}")).collect();
            if !enabled.is_empty() {
                fs::write(level.join("cgroup.subtree_control"), enabled.join(" "))
                    .with_context(|| format!("enable controllers of {}", level.display()))?;
            }
        }
        return Ok(());
    }
    // A new v1 cpuset is empty and accepts no process.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(parent.join(file)) {
            write_if_there(&folder.join(file), value.trim())?;
        }
    }
    Ok(())
}

fn write_if_there(file: &Path, value: &str) -> Result<()> {
    if file.exists() {
        fs::write(file, value).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Whether any hierarchy has the cluster's group.
pub(crate) fn exists(hierarchies: &[Hierarchy]) -> bool {
    hierarchies.iter().any(|each| each.root.join(CGROUP).exists())
}

/// Every process below a group, in all hierarchies: runc moves containers into each.
pub(crate) fn processes(hierarchies: &[Hierarchy], group: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for hierarchy in hierarchies {
        for folder in below(&hierarchy.root.join(group)) {
            // The group may disappear meanwhile.
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes the cluster's groups. A group stays busy for a moment after its last process ended.
///
/// # Errors
/// When one is still busy after five seconds.
pub(crate) fn remove(hierarchies: &[Hierarchy]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for hierarchy in hierarchies {
        for folder in below(&hierarchy.root.join(CGROUP)) {
            loop {
                match fs::remove_dir(&folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == ErrorKind::NotFound => break,
                    Err(_) if Instant::now() < deadline => {
                        thread::sleep(Duration::from_millis(20));
                    }
                    Err(error) => {
                        return Err(error).with_context(|| format!("remove {}", folder.display()));
                    }
                }
            }
        }
    }
    Ok(())
}

/// A folder and all folders below it, deepest first.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = if folder.is_dir() { vec![folder.to_path_buf()] } else { vec![] };
    while let Some(next) = pending.pop() {
        let entries = fs::read_dir(&next).into_iter().flatten().flatten();
        pending.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        found.push(next);
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /proc rw - proc proc rw
26 25 0:23 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
27 25 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 25 0:24 / /mnt/elsewhere rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn both_versions_are_found_when_mounted_together() {
        let found = parse(HYBRID);
        let roots: Vec<_> = found.iter().map(|each| each.root.display().to_string()).collect();
        assert_eq!(roots, ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"]);
        assert_eq!(tracking(&found).root, Path::new("/sys/fs/cgroup/pids"));
    }

    #[test]
    fn a_lone_v2_hierarchy_tracks_processes() {
        let found = parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(tracking(&found).unified);
    }

    #[test]
    fn the_deepest_group_is_listed_first() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("a/b")).expect("made");
        let names: Vec<_> = below(folder.path())
            .iter()
            .map(|each| each.strip_prefix(folder.path()).expect("below").display().to_string())
            .collect();
        assert_eq!(names, ["a/b", "a", ""]);
    }
}
