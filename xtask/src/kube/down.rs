//! `kube down`: removes the cluster, whatever state it is in.
//!
//! It relies on names and membership, not on history: what is in the cluster's control groups,
//! namespaces and folder belongs to the cluster. Every step can be repeated; the owner record is
//! removed last.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::plan::{CGROUP, HOME, NETNS_FOLDER};
use super::record::{self, Owner, ProcessId, Started};
use super::{cgroup, network, ownership};

/// Removes the cluster that was created from `project`, and returns whether there was one.
///
/// # Errors
/// As [`ownership::find`]; otherwise what could not be removed. A second call continues.
pub(crate) fn down(project: &Path) -> Result<bool> {
    let Some(owner) = ownership::find(project)? else {
        remove_with_drafts(Path::new(HOME))?;
        return Ok(false);
    };
    let hierarchies = cgroup::hierarchies()?;
    let started = if owner.before_boot() { vec![] } else { record::all_started() };
    kill_all(&hierarchies, CGROUP, &started)?;
    network::remove()?;
    if !owner.netns_before {
        remove_netns_folder()?;
    }
    unmount_below(Path::new(HOME))?;
    cgroup::remove(&hierarchies)?;
    if !owner.before_boot() {
        owner.restore()?;
    }
    let shown = owner.shown;
    for file in ["env.json", "admin.kubeconfig", "inside.kubeconfig"] {
        ignore_missing(fs::remove_file(shown.join(file)))
            .with_context(|| format!("remove {file}"))?;
    }
    ignore_missing(fs::remove_dir_all(shown.join("bin"))).context("remove the programs")?;
    remove_home()?;
    Ok(true)
}

/// Whether every process that `up` started is still running.
pub(crate) fn is_intact(owner: &Owner) -> bool {
    !owner.before_boot() && {
        let started = record::all_started();
        !started.is_empty() && super::status::newest(started).iter().all(|each| each.id.runs())
    }
}

/// Kills all processes of a control group and of a list, until none is left. A dying kubelet or
/// containerd may start others meanwhile; the next round kills those.
///
/// # Errors
/// When some still run after twenty seconds.
pub(crate) fn kill_all(
    hierarchies: &[cgroup::Hierarchy],
    group: &str,
    started: &[Started],
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut killed = BTreeSet::new();
    loop {
        let members = cgroup::processes(hierarchies, group);
        let left: Vec<ProcessId> = members
            .into_iter()
            .filter_map(ProcessId::of)
            .chain(started.iter().map(|each| each.id))
            .filter(|id| id.runs())
            .collect();
        if left.is_empty() {
            // Their parent, usually process 1, reaps them shortly.
            let reaped = Instant::now() + Duration::from_secs(3);
            while Instant::now() < reaped && killed.iter().any(|id: &ProcessId| id.exists()) {
                thread::sleep(Duration::from_millis(10));
            }
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "processes still run after SIGKILL: {:?}",
                left.iter().map(|id| id.pid).collect::<Vec<_>>()
            );
        }
        for id in left {
            id.kill();
            killed.insert(id);
        }
        thread::sleep(Duration::from_millis(30));
    }
}

/// `ip netns add` bind-mounts this folder on itself the first time. Others may use it by now.
fn remove_netns_folder() -> Result<()> {
    let folder = Path::new(NETNS_FOLDER);
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        unmount_below(folder)?;
        ignore_missing(fs::remove_dir(folder)).context("remove the namespaces' folder")?;
    }
    Ok(())
}

/// Detaches everything mounted below a folder in this process's mount namespace. A node's mounts
/// are in the node's own namespace and end with it; this removes what propagated out of it.
fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    for point in mount_points(&mounts, folder) {
        unmount(&point, UnmountFlags::DETACH)
            .with_context(|| format!("unmount {}", point.display()))?;
    }
    Ok(())
}

/// Mount points below a folder, newest first.
fn mount_points(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    points.reverse();
    points
}

fn remove_home() -> Result<()> {
    let home = Path::new(HOME);
    for entry in fs::read_dir(home).context("read the cluster's folder")? {
        let entry = entry?;
        if entry.file_name() == "owner.json" {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        ignore_missing(removed).with_context(|| format!("remove {}", path.display()))?;
    }
    ignore_missing(fs::remove_file(home.join("owner.json"))).context("remove the owner record")?;
    remove_with_drafts(home)
}

fn remove_with_drafts(folder: &Path) -> Result<()> {
    ignore_missing(fs::remove_dir_all(folder))
        .with_context(|| format!("remove {}", folder.display()))
}

/// Treats removing something that does not exist as a success.
fn ignore_missing(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_the_folder_are_listed_newest_first() {
        let mounts = "\
1 0 8:1 / / rw - ext4 /dev/a rw
2 1 8:1 /x /var/lib/larder-kube/node1 rw - ext4 /dev/a rw
3 2 0:9 / /var/lib/larder-kube/node1/deep rw - tmpfs none rw
4 1 0:9 / /var/lib/larder-kube-other rw - tmpfs none rw
";
        let points = mount_points(mounts, Path::new(HOME));
        let points: Vec<_> = points.iter().map(|point| point.display().to_string()).collect();
        assert_eq!(points, ["/var/lib/larder-kube/node1/deep", "/var/lib/larder-kube/node1"]);
    }

    #[test]
    fn a_listed_process_outside_the_control_group_is_killed() {
        let mut child =
            std::process::Command::new("sleep").arg("60").spawn().expect("sleep is there");
        let id = ProcessId::of(child.id()).expect("it runs");
        let listed = Started { name: "stray".into(), id };
        kill_all(&[], "no-such-group", &[listed]).expect("it ends");
        assert!(!child.wait().expect("it ended").success());
    }
}
