//! Owns the one thing that Kubernetes cannot clear away for us: a deleted CacheCluster's keys in an
//! external etcd. A managed etcd goes with its owner reference, so it needs no finalizer.
//!
//! # Guarantees
//! A deletion is never held up for long: when etcd does not answer, the finalizer is given up after
//! [`PATIENCE_SECONDS`], and what stays behind is said in an event.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::Keys;
use serde_json::json;

use super::build::labels::MANAGER;
use super::observe::Observed;
use crate::api::CacheCluster;
use crate::etcd::{self, Change, EtcdAdmin};

/// Name of the finalizer.
pub const FINALIZER: &str = "larder.dev/registry";
/// So long an unreachable etcd may hold up a deletion.
pub const PATIENCE_SECONDS: i64 = 60;

/// How far a deletion is.
#[derive(Debug)]
pub enum Deletion {
    /// The object is not being deleted.
    None,
    /// Nothing holds it up any more.
    Done,
    /// The keys stand and etcd does not answer yet.
    Waiting(etcd::Error),
    /// Given up: the keys stay behind.
    Abandoned(etcd::Error),
}

/// Sets the finalizer on a CacheCluster with an external etcd; tells whether it wrote.
///
/// # Errors
/// When the API server does not take it.
pub async fn protect(client: &Client, cluster: &CacheCluster) -> Result<bool, kube::Error> {
    let needs = cluster.spec.etcd.external.is_some();
    if !needs || is_protected(cluster) || cluster.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    set(client, cluster, &[FINALIZER]).await.map(|()| true)
}

/// Clears the keys of a CacheCluster that is being deleted, then lets it go.
///
/// # Errors
/// When the API server does not take the removal of the finalizer.
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
    let outcome = match clear(admin, observed).await {
        Ok(()) => Deletion::Done,
        Err(error) if observed.now.0.as_second() - since.0.as_second() < PATIENCE_SECONDS => {
            return Ok(Deletion::Waiting(error));
        }
        Err(error) => Deletion::Abandoned(error),
    };
    set(client, cluster, &[]).await?;
    Ok(outcome)
}

fn is_protected(cluster: &CacheCluster) -> bool {
    cluster.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

async fn clear(admin: &dyn EtcdAdmin, observed: &Observed) -> Result<(), etcd::Error> {
    let cluster = &observed.cluster;
    let keys = Keys::new(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    let listing = admin.list(&observed.etcd.access, keys.root()).await?;
    for entry in listing.entries {
        let change = Change::DeleteUnchanged { key: entry.key, changed: entry.changed };
        admin.change(&observed.etcd.access, change).await?;
    }
    Ok(())
}

/// The list of our field manager; finalizers of others are not touched by a server-side apply.
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
