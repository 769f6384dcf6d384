//! Owns the writes of a reconcile, in this order: server-side apply of every object, pruning, one
//! change of etcd's membership, the refresh of credentials in running pods, and the deletion of
//! orphaned registry keys. The next reconcile can continue from any point of it.
//!
//! # Guarantees
//! - An object that is as wanted is not written, not even with an apply that changes nothing.
//! - Only children that this very CacheCluster owns are deleted, each by its uid.

mod covers;

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::annotations::{APPLIED, CREDENTIALS, hash};
use super::build::{EtcdObjects, Objects};
use super::labels::MANAGER;
use super::observe::Observed;
use super::plan::Step;
use super::prepare::Prepared;
use super::validate::Cluster;
use crate::etcd::{self, EtcdAdmin};

pub use covers::covers;

/// What was done; status is computed from it.
#[derive(Debug)]
pub struct Applied {
    /// The members' StatefulSet after the writes.
    pub members: StatefulSet,
    /// The change of etcd's membership that was requested, and etcd's answer.
    pub step: (Step, Result<(), etcd::Error>),
    /// Number of writes to the API server.
    pub writes: usize,
}

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("{kind} {name} could not be applied")]
    Apply { kind: &'static str, name: String, source: kube::Error },
    #[error("{kind} {name} could not be deleted")]
    Prune { kind: &'static str, name: String, source: kube::Error },
    #[error("Pod {name} could not be annotated")]
    Pod { name: String, source: kube::Error },
}

impl Error {
    /// True when the API server refused the write, so that a retry without an edit is useless.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let (Self::Apply { source, .. } | Self::Prune { source, .. } | Self::Pod { source, .. }) =
            self;
        matches!(source, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
    }
}

/// Writes what was prepared.
///
/// # Errors
/// The first write that failed; earlier writes remain. When the API server refuses an object, the
/// others are still written and the refusal is returned at the end. A refusal by etcd is not an
/// error but part of [`Applied`].
pub async fn apply(
    client: &Client,
    admin: &dyn EtcdAdmin,
    cluster: &Cluster,
    observed: &Observed,
    prepared: Prepared,
) -> Result<Applied, Error> {
    let mut writer = Writer { client, cluster, writes: 0, refused: None };
    let Prepared {
        objects,
        etcd_members,
        credentials,
        credentials_hash,
        stale_pods,
        step,
        stray_pods,
        stray_claims,
        orphaned_keys,
    } = prepared;
    let children = &observed.children;
    // Without `..`, so that an object that is added to the builders cannot be left out here.
    let Objects { config, members_service, client_service, member_budget, etcd, members } = objects;

    let (mut services, mut budgets) = (vec![members_service, client_service], vec![member_budget]);
    if let Some(EtcdObjects { peers_service, client_service, budget }) = etcd {
        services.extend([peers_service, client_service]);
        budgets.extend(budget);
    }
    writer.apply_all(&children.services, &services).await?;
    writer.apply_all(&children.budgets, &budgets).await?;
    writer.apply_all(&children.secrets, credentials.as_slice()).await?;
    writer.apply(&children.config_maps, &config).await?;
    writer.apply_all(&children.stateful_sets, &etcd_members).await?;
    // The members are last, so that what their pods mount and connect to exists.
    let members = writer.apply(&children.stateful_sets, &members).await?;

    writer.prune(&children.services, &services).await?;
    writer.prune(&children.budgets, &budgets).await?;
    writer.prune(&children.config_maps, std::slice::from_ref(&config)).await?;
    let mut sets = etcd_members;
    sets.push(members.clone());
    writer.prune(&children.stateful_sets, &sets).await?;

    for pod in stray_pods {
        writer.delete(&children.pods, &pod).await?;
    }
    for claim in stray_claims {
        writer.delete(&children.claims, &claim).await?;
    }
    let result = writer.step(admin, observed, &step).await?;
    for pod in stale_pods {
        writer.refresh_credentials(&pod, &credentials_hash).await?;
    }
    for change in orphaned_keys {
        if let Err(error) = admin.change(&observed.etcd.access, change).await {
            tracing::warn!(%error, "could not delete a deleted group's registry key");
        }
    }
    match writer.refused {
        Some(refusal) => Err(refusal),
        None => Ok(Applied { members, step: (step, result), writes: writer.writes }),
    }
}

struct Writer<'w> {
    client: &'w Client,
    cluster: &'w Cluster,
    writes: usize,
    /// The first write that the API server refused.
    refused: Option<Error>,
}

/// A kind of child object.
trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + k8s_openapi::Resource
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Sync
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Sync
{
}

impl Writer<'_> {
    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.cluster.namespace)
    }

    async fn apply_all<K: Child>(&mut self, live: &[K], wanted: &[K]) -> Result<(), Error> {
        for object in wanted {
            self.apply(live, object).await?;
        }
        Ok(())
    }

    /// Applies one object unless it is as wanted already; returns it as it is afterwards.
    async fn apply<K: Child>(&mut self, live: &[K], wanted: &K) -> Result<K, Error> {
        let mut wanted = wanted.clone();
        wanted.annotations_mut().remove(APPLIED);
        let hash = hash(&wanted);
        wanted.annotations_mut().insert(APPLIED.into(), hash);
        let name = wanted.name_any();
        let existing = live.iter().find(|object| object.name_any() == name);
        if let Some(existing) = existing.filter(|existing| is_current(*existing, &wanted)) {
            return Ok(existing.clone());
        }
        let applied = self.patch(&name, &Patch::Apply(&wanted)).await;
        let applied = match (applied, existing) {
            // Somebody changed the key of a list entry, so that the applied entry conflicts with
            // the changed one. The operator owns the object, so its lists replace the existing
            // ones.
            (Err(kube::Error::Api(status)), Some(_)) if status.code == 422 => {
                self.patch(&name, &Patch::Merge(&wanted)).await
            }
            (applied, _) => applied,
        };
        match (applied, existing) {
            (Ok(applied), _) => Ok(applied),
            (Err(source), existing) => {
                let error = Error::Apply { kind: K::KIND, name, source };
                match existing.filter(|_| error.is_refusal()) {
                    Some(existing) => {
                        self.refused.get_or_insert(error);
                        Ok(existing.clone())
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn patch<K: Child>(&mut self, name: &str, patch: &Patch<&K>) -> Result<K, kube::Error> {
        self.writes += 1;
        tracing::info!(kind = K::KIND, name, "applying an object");
        let params = match patch {
            Patch::Apply(_) => PatchParams::apply(MANAGER).force(),
            _ => PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() },
        };
        self.api::<K>().patch(name, &params, patch).await
    }

    /// Deletes the children of this CacheCluster that are not wanted.
    async fn prune<K: Child>(&mut self, live: &[K], wanted: &[K]) -> Result<(), Error> {
        for object in surplus(live, wanted, &self.cluster.uid) {
            self.delete(live, &object.name_any()).await?;
        }
        Ok(())
    }

    /// Deletes the object that was observed under that name, by its uid.
    async fn delete<K: Child>(&mut self, live: &[K], name: &str) -> Result<(), Error> {
        self.writes += 1;
        tracing::info!(kind = K::KIND, name, "deleting an object");
        let uid = live.iter().find(|object| object.name_any() == name).and_then(ResourceExt::uid);
        let preconditions = Preconditions { uid, resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let deleted = self.api::<K>().delete(name, &params).await.map(|_| ());
        ignore_absent(deleted).map_err(|source| Error::Prune {
            kind: K::KIND,
            name: name.into(),
            source,
        })
    }

    /// Makes the step. The outer result is the API server's, the inner one etcd's.
    async fn step(
        &mut self,
        admin: &dyn EtcdAdmin,
        observed: &Observed,
        step: &Step,
    ) -> Result<Result<(), etcd::Error>, Error> {
        let access = &observed.etcd.access;
        let done = match step {
            Step::Settled | Step::Wait => return Ok(Ok(())),
            Step::AddLearner { peer_url, .. } => admin.add_learner(access, peer_url).await,
            Step::Promote { id, .. } => admin.promote(access, *id).await,
            Step::Remove { id, .. } => admin.remove(access, *id).await,
            Step::Restart { pod } => {
                self.delete(&observed.children.pods, pod).await?;
                Ok(())
            }
        };
        match &done {
            Ok(()) => tracing::info!(?step, "etcd step done"),
            Err(error @ etcd::Error::NotYet { .. }) => {
                tracing::debug!(?step, %error, "etcd step not possible yet");
            }
            Err(error) => {
                tracing::warn!(?step, error = error as &dyn std::error::Error, "etcd step failed");
            }
        }
        Ok(done)
    }

    /// Annotates a pod: a change of the pod makes its kubelet refresh the pod's volumes now instead
    /// of within a minute.
    async fn refresh_credentials(&mut self, pod: &str, hash: &str) -> Result<(), Error> {
        self.writes += 1;
        let patch = json!({"metadata": {"annotations": {CREDENTIALS: hash}}});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patched = self.api::<Pod>().patch(pod, &params, &Patch::Merge(patch)).await.map(|_| ());
        ignore_absent(patched).map_err(|source| Error::Pod { name: pod.into(), source })
    }
}

/// Ignores that the object is gone or replaced: the next reconcile observes it.
fn ignore_absent(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// True when `wanted` was applied last and none of its fields has been changed since.
fn is_current<K: Child>(existing: &K, wanted: &K) -> bool {
    let json = |object: &K| serde_json::to_value(object).expect("plain data");
    existing.annotations().get(APPLIED) == wanted.annotations().get(APPLIED)
        && existing.meta().deletion_timestamp.is_none()
        && covers(&json(existing), &json(wanted))
}

/// Children of `owner` that are not wanted and not being deleted yet.
fn surplus<'l, K: Resource>(live: &'l [K], wanted: &[K], owner: &str) -> Vec<&'l K> {
    let wanted: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    live.iter()
        .filter(|object| {
            let owned = object.owner_references().iter().any(|reference| reference.uid == owner);
            owned
                && object.meta().deletion_timestamp.is_none()
                && !wanted.contains(&object.name_any())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn child(name: &str, owner: &str, terminating: bool) -> ConfigMap {
        let deletion = terminating.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {
            "name": name,
            "deletionTimestamp": deletion,
            "ownerReferences": [
                {"apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster", "name": "shop",
                 "uid": owner},
            ],
        }}))
        .expect("valid")
    }

    #[test]
    fn only_unwanted_children_of_the_owner_are_pruned() {
        let live = [
            child("wanted", "u1", false),
            child("left-over", "u1", false),
            child("of-a-predecessor", "u0", false),
            child("going", "u1", true),
        ];
        let pruned = surplus(&live, &[child("wanted", "u1", false)], "u1");
        assert_eq!(pruned.iter().map(|c| c.name_any()).collect::<Vec<_>>(), ["left-over"]);
    }

    #[test]
    fn a_field_that_is_no_longer_set_is_found_by_the_hash() {
        let with = |data: serde_json::Value, applied: &str| -> ConfigMap {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "annotations": {APPLIED: applied}}, "data": data,
            }))
            .expect("valid")
        };
        let live = with(json!({"a": "1", "b": "2"}), "h1");
        assert!(is_current(&live, &with(json!({"a": "1"}), "h1")));
        assert!(!is_current(&live, &with(json!({"a": "1"}), "h2")));
        assert!(!is_current(&live, &with(json!({"a": "3"}), "h1")));
    }
}
