//! Owns the writes of a reconcile: objects by server-side apply, pruning, one change of etcd's
//! membership, the nudge to kubelets, and the keys of groups that are gone. In this order, so that
//! dying between any two of them leaves something that the next reconcile goes on from.
//!
//! # Guarantees
//! - What stands as it should is not written, not even with an apply that changes nothing.
//! - Only children whose owner is this very CacheCluster are deleted, each by its uid.

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

use super::build::labels::MANAGER;
use super::build::{EtcdObjects, Objects};
use super::observe::Observed;
use super::plan::Step;
use super::prepare::{CREDENTIALS, Prepared, hash};
use super::validate::Cluster;
use crate::etcd::{self, EtcdAdmin};

pub use covers::covers;

/// Annotation of every child: hash of the object as it was last applied. It differs when we no
/// longer want a field that we once set, which comparing fields alone would not show.
pub const APPLIED: &str = "larder.dev/applied";

/// What was done. Status may be computed only from this.
#[derive(Debug)]
pub struct Applied {
    /// The members' StatefulSet as it stands after the writes.
    pub members: StatefulSet,
    /// The change of etcd's membership that was made, and what etcd said.
    pub step: (Step, Result<(), etcd::Error>),
    /// Writes to the API server.
    pub writes: usize,
}

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A child could not be applied.
    #[error("{kind} {name} could not be applied")]
    Apply {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// What is not wanted could not be deleted.
    #[error("{kind} {name} could not be deleted")]
    Prune {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A pod could not be told of new credentials.
    #[error("Pod {name} could not be changed")]
    Pod {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

impl Error {
    /// The API server understood and refused: trying again without a change is no use.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let (Self::Apply { source, .. } | Self::Prune { source, .. } | Self::Pod { source, .. }) =
            self;
        matches!(source, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
    }
}

/// Makes it so.
///
/// # Errors
/// The first write that failed; what was written before it stands. An object that the API server
/// refuses does not keep the others from being written: the refusal is told at the end. Etcd's
/// refusals are no errors.
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
        untold,
        step,
        strays,
        stray_claims,
        forgotten,
    } = prepared;
    let children = &observed.children;
    // Without `..`: an object that is added to the builders cannot be forgotten here.
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
    // The members go last: what their pods mount and meet exists by then.
    let members = writer.apply(&children.stateful_sets, &members).await?;

    writer.prune(&children.services, &services).await?;
    writer.prune(&children.budgets, &budgets).await?;
    writer.prune(&children.config_maps, std::slice::from_ref(&config)).await?;
    let mut sets = etcd_members;
    sets.push(members.clone());
    writer.prune(&children.stateful_sets, &sets).await?;

    for pod in strays {
        writer.discard(&children.pods, &pod).await?;
    }
    for claim in stray_claims {
        writer.discard(&children.claims, &claim).await?;
    }
    let result = writer.step(admin, observed, &step).await?;
    let (pods, hash) = untold;
    for pod in pods {
        writer.tell(&pod, &hash).await?;
    }
    for change in forgotten {
        if let Err(error) = admin.change(&observed.etcd.access, change).await {
            tracing::warn!(%error, "a deleted group's key stays in the registry for now");
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
    /// The first refusal.
    refused: Option<Error>,
}

/// What every child is.
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

    /// Applies one object unless it stands; returns it as it stands.
    async fn apply<K: Child>(&mut self, live: &[K], wanted: &K) -> Result<K, Error> {
        let mut wanted = wanted.clone();
        wanted.annotations_mut().remove(APPLIED);
        let hash = hash(&wanted);
        wanted.annotations_mut().insert(APPLIED.into(), hash);
        let name = wanted.name_any();
        let standing = live.iter().find(|object| object.name_any() == name);
        if let Some(standing) = standing.filter(|standing| stands(*standing, &wanted)) {
            return Ok(standing.clone());
        }
        let applied = self.patch(&name, &Patch::Apply(&wanted)).await;
        let applied = match (applied, standing) {
            // Somebody changed the key of a list's entry, so that ours and theirs contradict each
            // other. The object is ours: its lists are put in place of what stands.
            (Err(kube::Error::Api(status)), Some(_)) if status.code == 422 => {
                self.patch(&name, &Patch::Merge(&wanted)).await
            }
            (applied, _) => applied,
        };
        match (applied, standing) {
            (Ok(applied), _) => Ok(applied),
            (Err(source), standing) => {
                let error = Error::Apply { kind: K::KIND, name, source };
                match standing.filter(|_| error.is_refusal()) {
                    Some(standing) => {
                        self.refused.get_or_insert(error);
                        Ok(standing.clone())
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn patch<K: Child>(&mut self, name: &str, patch: &Patch<&K>) -> Result<K, kube::Error> {
        self.writes += 1;
        tracing::info!(kind = K::KIND, name, "applying");
        let params = match patch {
            Patch::Apply(_) => PatchParams::apply(MANAGER).force(),
            _ => PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() },
        };
        self.api::<K>().patch(name, &params, patch).await
    }

    /// Deletes what is ours and not wanted.
    async fn prune<K: Child>(&mut self, live: &[K], wanted: &[K]) -> Result<(), Error> {
        for object in surplus(live, wanted, &self.cluster.uid) {
            self.discard(live, &object.name_any()).await?;
        }
        Ok(())
    }

    /// Deletes the object that was observed under that name.
    async fn discard<K: Child>(&mut self, live: &[K], name: &str) -> Result<(), Error> {
        self.writes += 1;
        tracing::info!(kind = K::KIND, name, "deleting what is not wanted");
        let uid = live.iter().find(|object| object.name_any() == name).and_then(ResourceExt::uid);
        let preconditions = Preconditions { uid, resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let deleted = self.api::<K>().delete(name, &params).await.map(|_| ());
        absent_is_fine(deleted).map_err(|source| Error::Prune {
            kind: K::KIND,
            name: name.into(),
            source,
        })
    }

    /// The outer result is the API server's, the inner one etcd's.
    async fn step(
        &mut self,
        admin: &dyn EtcdAdmin,
        observed: &Observed,
        step: &Step,
    ) -> Result<Result<(), etcd::Error>, Error> {
        let access = &observed.etcd.access;
        let done = match step {
            Step::Rest | Step::Wait => return Ok(Ok(())),
            Step::AddLearner { peer_url, .. } => admin.add_learner(access, peer_url).await,
            Step::Promote { id, .. } => admin.promote(access, *id).await,
            Step::Remove { id, .. } => admin.remove(access, *id).await,
            Step::Restart { pod } => {
                self.discard(&observed.children.pods, pod).await?;
                Ok(())
            }
        };
        match &done {
            Ok(()) => tracing::info!(?step, "etcd step done"),
            Err(error @ etcd::Error::NotYet { .. }) => tracing::debug!(?step, %error, "not yet"),
            Err(error) => tracing::warn!(?step, error = error as &dyn std::error::Error, "failed"),
        }
        Ok(done)
    }

    /// Touches a pod, so that its kubelet fetches the Secret now.
    async fn tell(&mut self, pod: &str, hash: &str) -> Result<(), Error> {
        self.writes += 1;
        let patch = json!({"metadata": {"annotations": {CREDENTIALS: hash}}});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let told = self.api::<Pod>().patch(pod, &params, &Patch::Merge(patch)).await.map(|_| ());
        absent_is_fine(told).map_err(|source| Error::Pod { name: pod.into(), source })
    }
}

/// Gone, or already another object under the same name: the next reconcile sees.
fn absent_is_fine(done: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// True when `wanted` was applied last and nobody has changed a field of it since.
fn stands<K: Child>(standing: &K, wanted: &K) -> bool {
    let json = |object: &K| serde_json::to_value(object).expect("plain data");
    standing.annotations().get(APPLIED) == wanted.annotations().get(APPLIED)
        && standing.meta().deletion_timestamp.is_none()
        && covers(&json(standing), &json(wanted))
}

/// Children of the owner that nobody wants any more and that are not being deleted yet.
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

    fn child(name: &str, owner: &str, leaving: bool) -> ConfigMap {
        let deletion = leaving.then_some("2026-01-01T00:00:00Z");
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
    fn only_own_unwanted_children_are_pruned() {
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
    fn a_field_that_we_no_longer_set_is_seen_by_the_hash() {
        let with = |data: serde_json::Value, applied: &str| -> ConfigMap {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "annotations": {APPLIED: applied}}, "data": data,
            }))
            .expect("valid")
        };
        let live = with(json!({"a": "1", "b": "2"}), "h1");
        assert!(stands(&live, &with(json!({"a": "1"}), "h1")));
        assert!(!stands(&live, &with(json!({"a": "1"}), "h2")));
        assert!(!stands(&live, &with(json!({"a": "3"}), "h1")));
    }
}
