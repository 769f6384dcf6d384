//! Owns the one cleanup that Kubernetes cannot do: a deleted CacheCluster's keys in an external
//! etcd. A managed etcd is deleted through its owner reference and needs no finalizer.
//!
//! # Guarantees
//! A deletion is never blocked for long: when etcd does not answer, the finalizer is removed after
//! [`PATIENCE_SECONDS`], and an event names the keys that remain.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::Keys;
use serde_json::json;

use super::labels::MANAGER;
use super::observe::Observed;
use crate::api::CacheCluster;
use crate::etcd::{self, Change, EtcdAdmin};

/// Name of the finalizer.
pub const FINALIZER: &str = "larder.dev/registry";
/// Longest time that an unreachable etcd blocks a deletion, seconds.
pub const PATIENCE_SECONDS: i64 = 60;

/// Progress of a deletion.
#[derive(Debug)]
pub enum Deletion {
    /// The object is not being deleted.
    None,
    /// Nothing blocks it any more.
    Done,
    /// The keys still exist, and etcd does not answer yet.
    Waiting(etcd::Error),
    /// Given up: the keys remain in etcd.
    Abandoned(etcd::Error),
}

/// Sets the finalizer on a CacheCluster with an external etcd; true when it was written.
///
/// # Errors
/// When the write fails.
pub async fn protect(client: &Client, cluster: &CacheCluster) -> Result<bool, kube::Error> {
    let needs = cluster.spec.etcd.external.is_some();
    if !needs || is_protected(cluster) || cluster.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    set(client, cluster, &[FINALIZER]).await.map(|()| true)
}

/// Deletes the keys of a CacheCluster that is being deleted, then removes the finalizer.
///
/// # Errors
/// When the finalizer cannot be removed.
pub async fn finalize(
    client: &Client,
    admin: &dyn EtcdAdmin,
    observed: &Observed,
) -> Result<Deletion, kube::Error> {
    let cluster = &observed.cluster;
    let Some(since) = &cluster.metadata.deletion_timestamp else { return Ok(Deletion::None) };
    if !is_protected(cluster) {
        return Ok(Deletion::Done);
    }
    let deletion = match delete_keys(admin, observed).await {
        Ok(()) => Deletion::Done,
        Err(error) if observed.now.0.as_second() - since.0.as_second() < PATIENCE_SECONDS => {
            return Ok(Deletion::Waiting(error));
        }
        Err(error) => Deletion::Abandoned(error),
    };
    set(client, cluster, &[]).await?;
    Ok(deletion)
}

fn is_protected(cluster: &CacheCluster) -> bool {
    cluster.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

async fn delete_keys(admin: &dyn EtcdAdmin, observed: &Observed) -> Result<(), etcd::Error> {
    let cluster = &observed.cluster;
    let keys = Keys::new(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    let listing = admin.list(&observed.etcd.access, keys.root()).await?;
    for entry in listing.entries {
        let change = Change::DeleteUnchanged { key: entry.key, changed: entry.changed };
        admin.change(&observed.etcd.access, change).await?;
    }
    Ok(())
}

/// Applies the operator's own finalizers; a server-side apply does not touch those of others.
async fn set(
    client: &Client,
    cluster: &CacheCluster,
    finalizers: &[&str],
) -> Result<(), kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<CacheCluster> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "CacheCluster",
        "metadata": {
            "name": cluster.name_any(), "uid": cluster.uid(), "finalizers": finalizers,
        },
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_metadata(&cluster.name_any(), &params, &Patch::Apply(&patch)).await.map(|_| ())
}
