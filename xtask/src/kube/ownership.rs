//! Decides whether the cluster on this machine belongs to this clone. Every verb asks before it
//! changes anything.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::plan::HOME;
use super::record::Owner;
use super::{cgroup, network};

/// The owner record of the cluster that was created from `project`, or none when there is no
/// cluster.
///
/// # Errors
/// When the cluster belongs to another clone, when something else uses the cluster's names, or when
/// another `kube up` is running.
pub(crate) fn find(project: &Path) -> Result<Option<Owner>> {
    let owner = Owner::read()?;
    let taken = if owner.is_none() { taken()? } else { vec![] };
    let busy = owner.as_ref().is_some_and(|owner| {
        owner.stage == super::record::Stage::Starting
            && owner.up.pid != std::process::id()
            && !owner.before_boot()
            && owner.up.runs()
    });
    if let Some(refusal) = refusal(owner.as_ref(), project, &taken, busy) {
        bail!(refusal);
    }
    Ok(owner)
}

/// Why the cluster must not be touched, if so.
fn refusal(owner: Option<&Owner>, project: &Path, taken: &[String], busy: bool) -> Option<String> {
    match owner {
        None if taken.is_empty() => None,
        None => Some(format!("in use, but not by a cluster of this tool: {}", taken.join(", "))),
        Some(owner) if owner.project != project => {
            let other = owner.project.display();
            Some(format!(
                "the cluster on this machine was created from {other}: run `kube down` there, \
                 or `kube down --made-by {other}` if that clone is gone"
            ))
        }
        Some(owner) if busy => {
            Some(format!("another `kube up` is running (process {})", owner.up.pid))
        }
        Some(_) => None,
    }
}

/// Everything that has one of the cluster's names without an owner record.
fn taken() -> Result<Vec<String>> {
    let mut taken: Vec<String> =
        network::existing().into_iter().map(|name| format!("network namespace {name}")).collect();
    if cgroup::exists(&cgroup::hierarchies()?) {
        taken.push(format!("control group {}", super::plan::CGROUP));
    }
    // A crash before the record exists leaves an empty folder, or one with its draft.
    let foreign = fs::read_dir(HOME)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| !entry.file_name().to_string_lossy().starts_with("owner."));
    if foreign {
        taken.push(format!("folder {HOME}"));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::plan::Plan;

    #[test]
    fn a_cluster_of_another_clone_is_refused_with_its_path() {
        let owner =
            Owner::new(Path::new("/somewhere/else"), &Plan::new(1)).expect("an owner record");
        let reason = refusal(Some(&owner), Path::new("/here"), &[], false).expect("refused");
        assert!(reason.contains("/somewhere/else"), "{reason}");
        assert_eq!(refusal(Some(&owner), Path::new("/somewhere/else"), &[], false), None);
    }

    #[test]
    fn names_without_an_owner_record_are_refused() {
        let taken = ["network namespace larder-node1".to_owned()];
        let reason = refusal(None, Path::new("/here"), &taken, false).expect("refused");
        assert!(reason.contains("larder-node1"), "{reason}");
        assert_eq!(refusal(None, Path::new("/here"), &[], false), None);
    }

    #[test]
    fn a_second_up_is_refused_while_the_first_runs() {
        let owner = Owner::new(Path::new("/here"), &Plan::new(1)).expect("an owner record");
        let reason = refusal(Some(&owner), Path::new("/here"), &[], true).expect("refused");
        assert!(reason.contains("is running"), "{reason}");
    }
}
