//! Whose cluster stands here: the judgement that keeps every verb away from what it did not make.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::plan::HOME;
use super::record::Owner;
use super::{cgroup, network};

/// The mark of the cluster that was made from `project`, or none if nothing of the kind is here.
///
/// # Errors
/// One line when someone else's cluster, or something that only has our names, is in the way, or
/// when another `kube up` is at work.
pub(crate) fn ours(project: &Path) -> Result<Option<Owner>> {
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

/// The sentence that says why this must not be touched, if so.
fn refusal(owner: Option<&Owner>, project: &Path, taken: &[String], busy: bool) -> Option<String> {
    match owner {
        None if taken.is_empty() => None,
        None => Some(format!("not ours, and its name is taken: {}", taken.join(", "))),
        Some(owner) if owner.project != project => {
            let other = owner.project.display();
            Some(format!(
                "the cluster here was made from {other}: \
                 use `kube down` there, or `kube down --made-by {other}` if that clone is gone"
            ))
        }
        Some(owner) if busy => {
            Some(format!("another `kube up` is at work (process {})", owner.up.pid))
        }
        Some(_) => None,
    }
}

/// What has our names although no mark stands.
fn taken() -> Result<Vec<String>> {
    let mut taken: Vec<String> =
        network::existing().into_iter().map(|name| format!("network namespace {name}")).collect();
    if cgroup::exists(&cgroup::hierarchies()?) {
        taken.push(format!("control group {}", super::plan::CGROUP));
    }
    // An empty folder, or one with the draft of a mark, is all that a crash this early leaves.
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
    fn a_cluster_made_elsewhere_is_refused_by_name() {
        let owner = Owner::new(Path::new("/somewhere/else"), &Plan::new(1)).expect("a mark");
        let words = refusal(Some(&owner), Path::new("/here"), &[], false).expect("refused");
        assert!(words.contains("/somewhere/else"), "{words}");
        assert_eq!(refusal(Some(&owner), Path::new("/somewhere/else"), &[], false), None);
    }

    #[test]
    fn names_without_a_mark_are_someone_elses() {
        let taken = ["network namespace larder-node1".to_owned()];
        let words = refusal(None, Path::new("/here"), &taken, false).expect("refused");
        assert!(words.contains("larder-node1"), "{words}");
        assert_eq!(refusal(None, Path::new("/here"), &[], false), None);
    }

    #[test]
    fn a_second_up_waits_for_nobody() {
        let owner = Owner::new(Path::new("/here"), &Plan::new(1)).expect("a mark");
        let words = refusal(Some(&owner), Path::new("/here"), &[], true).expect("refused");
        assert!(words.contains("at work"), "{words}");
    }
}
