//! Owns everything that should exist: the built objects, the planned etcd members, the groups'
//! credentials, and what is to be deleted. Pure; [`super::apply`] writes it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use larder_proto::keys::{Keys, ParsedKey};

use super::annotations::{CREDENTIALS, hash};
use super::build::{self, Objects};
use super::observe::Observed;
use super::plan::{Plan, Step};
use super::validate::{Cluster, Etcd};
use super::{labels, names};
use crate::api::cluster::OriginsSpec;
use crate::etcd::Change;

/// Everything that should exist, and what is to be deleted.
#[derive(Debug)]
pub struct Prepared {
    /// The objects that follow from the spec alone.
    pub objects: Objects,
    /// The managed etcd's members.
    pub etcd_members: Vec<StatefulSet>,
    /// The origins' credentials; none where the operator has no right to write Secrets.
    pub credentials: Option<Secret>,
    /// Hash of the credentials.
    pub credentials_hash: String,
    /// Running members' pods whose kubelet may still have older credentials.
    pub stale_pods: Vec<String>,
    /// The one change of etcd's membership.
    pub step: Step,
    /// etcd pods whose StatefulSet neither exists nor is wanted. Nothing else deletes them, and
    /// they would answer clients of a cluster that no longer exists.
    pub stray_pods: Vec<String>,
    /// etcd's volumes whose StatefulSet was deleted before Kubernetes made it their owner.
    pub stray_claims: Vec<String>,
    /// Deletions of registry keys whose groups are gone.
    pub orphaned_keys: Vec<Change>,
}

/// Puts the desired state of `cluster` together.
#[must_use]
pub fn prepare(cluster: &Cluster, observed: &Observed, plan: Option<&Plan>) -> Prepared {
    let etcd_members = match (&cluster.etcd, plan) {
        (Etcd::Managed(managed), Some(plan)) => {
            let set = |member| build::etcd::stateful_set(cluster, managed, member);
            plan.members.iter().map(set).collect()
        }
        _ => Vec::new(),
    };
    let allowed = !observed.children.secrets_forbidden;
    let credentials =
        allowed.then(|| build::credentials(cluster, &urls(&cluster.origins, observed)));
    let hash = credentials.as_ref().map(|secret| hash(&secret.data)).unwrap_or_default();
    let stale = |pod: &&Pod| allowed && has_stale_credentials(pod, &hash);
    let stale_pods = observed.children.pods.iter().filter(stale).map(ResourceExt::name_any);
    Prepared {
        objects: Objects::build(cluster),
        etcd_members,
        stale_pods: stale_pods.collect(),
        credentials_hash: hash,
        credentials,
        step: plan.map_or(Step::Settled, |plan| plan.step.clone()),
        stray_pods: strays(observed, plan, &observed.children.pods),
        stray_claims: stray_claims(observed, plan),
        orphaned_keys: orphaned_keys(cluster, observed),
    }
}

/// Names of the objects whose etcd member neither has a StatefulSet nor is wanted.
fn strays<K: ResourceExt>(observed: &Observed, plan: Option<&Plan>, objects: &[K]) -> Vec<String> {
    let wanted = plan.map_or(&[][..], |plan| &plan.members);
    let sets = &observed.children.stateful_sets;
    let is_stray = |object: &&K| {
        object.meta().deletion_timestamp.is_none()
            && object.labels().get(labels::ETCD_MEMBER).is_some_and(|name| {
                let exists = sets.iter().any(|set| set.name_any() == *name);
                !exists && wanted.iter().all(|member| member.name != *name)
            })
    };
    objects.iter().filter(is_stray).map(ResourceExt::name_any).collect()
}

/// Kubernetes deletes a volume that has an owner together with it.
fn stray_claims(observed: &Observed, plan: Option<&Plan>) -> Vec<String> {
    let claims = observed.children.claims.iter();
    let orphans: Vec<_> =
        claims.filter(|claim| claim.owner_references().is_empty()).cloned().collect();
    strays(observed, plan, &orphans)
}

/// The connection URL of each group that has one. While a Secret is missing, the members keep the
/// URL that they have: reads continue, and the group's status says what is wrong. They lose the URL
/// of a Secret that groups may not use.
fn urls(origins: &OriginsSpec, observed: &Observed) -> BTreeMap<String, Vec<u8>> {
    let known = observed.children.secrets.first().and_then(|secret| secret.data.as_ref());
    let kept =
        |group: &str| known.and_then(|data| data.get(&names::credential_file(group))).cloned();
    let wanted = observed.groups.iter().filter_map(|group| {
        let reference = group.url_secret()?;
        let secret = observed.secrets.get(&reference.name).and_then(Option::as_ref);
        if secret.is_some_and(|secret| !origins.allows(secret)) {
            return None;
        }
        let named = secret.and_then(|s| s.data.as_ref()).and_then(|data| data.get(&reference.key));
        let name = group.name_any();
        Some((named.cloned().or_else(|| kept(&name))?, name))
    });
    let unreadable =
        observed.unreadable_groups.iter().filter_map(|name| Some((kept(name)?, name.clone())));
    wanted.chain(unreadable).map(|(url, name)| (name, url.0)).collect()
}

/// True for a running member whose kubelet was not made to fetch the credentials with this hash.
fn has_stale_credentials(pod: &Pod, hash: &str) -> bool {
    let component = pod.labels().get("app.kubernetes.io/component").map(String::as_str);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    component == Some("member")
        && !pod.labels().contains_key(labels::ETCD_MEMBER)
        && phase == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && pod.annotations().get(CREDENTIALS).map(String::as_str) != Some(hash)
}

/// Deletions of keys whose groups are gone. The registry was read before the groups were listed, so
/// the group of every key that was read either is listed or was deleted.
fn orphaned_keys(cluster: &Cluster, observed: &Observed) -> Vec<Change> {
    let Ok(listing) = &observed.registry else { return Vec::new() };
    let keys = Keys::new(&cluster.namespace, &cluster.name);
    let mut names: BTreeSet<String> = observed.groups.iter().map(ResourceExt::name_any).collect();
    names.extend(observed.unreadable_groups.iter().cloned());
    let gone = listing.entries.iter().filter(|entry| match keys.parse(&entry.key) {
        Some(ParsedKey::Group(name)) => !names.contains(name),
        Some(ParsedKey::Member(_)) | None => false,
    });
    gone.map(|entry| Change::DeleteUnchanged { key: entry.key.clone(), changed: entry.changed })
        .collect()
}

#[cfg(test)]
mod tests;
