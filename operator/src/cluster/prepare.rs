//! Owns the whole of what should stand, put together from the builders' objects, the plan and the
//! groups' credentials. Pure; [`super::apply`] makes it so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use larder_proto::keys::{Keys, ParsedKey};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::build::{self, Objects, labels};
use super::observe::Observed;
use super::observe::secrets::url_secret;
use super::plan::{Plan, Step};
use super::validate::{Cluster, Etcd};
use crate::etcd::Change;

/// Annotation of a member's pod: hash of the credentials that its kubelet was told to fetch.
/// Touching a pod makes its kubelet refresh the pod's volumes at once instead of within a minute.
pub const CREDENTIALS: &str = "larder.dev/credentials";

/// What should stand.
#[derive(Debug)]
pub struct Prepared {
    /// What follows from the spec alone.
    pub objects: Objects,
    /// The managed etcd's members.
    pub etcd_members: Vec<StatefulSet>,
    /// The origins' credentials; none where the operator has no right to Secrets.
    pub credentials: Option<Secret>,
    /// Running members' pods that have not been told of the newest credentials, and the hash of
    /// these.
    pub untold: (Vec<String>, String),
    /// The one change of etcd's membership.
    pub step: Step,
    /// etcd pods of nobody: no StatefulSet of theirs stands or is wanted, and nobody deletes them.
    /// They would answer clients in the name of a cluster that is no more.
    pub strays: Vec<String>,
    /// etcd's volumes of nobody: their StatefulSet went before Kubernetes had made it their owner.
    pub stray_claims: Vec<String>,
    /// Keys of the registry whose groups are gone.
    pub forgotten: Vec<Change>,
}

/// Puts everything together.
#[must_use]
pub fn prepare(cluster: &Cluster, observed: &Observed, plan: Option<&Plan>) -> Prepared {
    let etcd_members = match (&cluster.etcd, plan) {
        (Etcd::Managed(managed), Some(plan)) => {
            let set = |member| build::etcd::stateful_set(cluster, managed, member);
            plan.members.iter().map(set).collect()
        }
        _ => Vec::new(),
    };
    let may = !observed.children.secrets_forbidden;
    let credentials = may.then(|| build::credentials(cluster, &urls(observed)));
    let hash = credentials.as_ref().map(|secret| hash(&secret.data)).unwrap_or_default();
    let untold = observed.children.pods.iter().filter(|pod| may && runs_untold(pod, &hash));
    Prepared {
        objects: Objects::build(cluster),
        etcd_members,
        untold: (untold.map(ResourceExt::name_any).collect(), hash),
        credentials,
        step: plan.map_or(Step::Rest, |plan| plan.step.clone()),
        strays: strays(observed, plan, &observed.children.pods),
        stray_claims: stray_claims(observed, plan),
        forgotten: forgotten(cluster, observed),
    }
}

/// Names of etcd members' objects whose member neither stands nor is wanted.
fn strays<K: ResourceExt>(observed: &Observed, plan: Option<&Plan>, objects: &[K]) -> Vec<String> {
    let wanted = plan.map_or(&[][..], |plan| &plan.members);
    let sets = &observed.children.stateful_sets;
    let of_nobody = |object: &&K| {
        object.meta().deletion_timestamp.is_none()
            && object.labels().get(labels::ETCD_MEMBER).is_some_and(|name| {
                let stands = sets.iter().any(|set| set.name_any() == *name);
                !stands && wanted.iter().all(|member| member.name != *name)
            })
    };
    objects.iter().filter(of_nobody).map(ResourceExt::name_any).collect()
}

/// Volumes that have an owner go with it.
fn stray_claims(observed: &Observed, plan: Option<&Plan>) -> Vec<String> {
    let claims = observed.children.claims.iter();
    let orphans: Vec<_> =
        claims.filter(|claim| claim.owner_references().is_empty()).cloned().collect();
    strays(observed, plan, &orphans)
}

/// The connection URL of each group that has one. While a Secret is missing, what the members have
/// already stays: reads go on, and the group's status says what is wrong.
fn urls(observed: &Observed) -> BTreeMap<String, Vec<u8>> {
    let known = observed.children.secrets.first().and_then(|secret| secret.data.as_ref());
    let kept = |group: &str| {
        known.and_then(|data| data.get(&build::names::credential_file(group))).cloned()
    };
    let wanted = observed.groups.iter().filter_map(|group| {
        let reference = url_secret(group)?;
        let secret = observed.secrets.get(&reference.name).and_then(Option::as_ref);
        let named = secret.and_then(|s| s.data.as_ref()).and_then(|data| data.get(&reference.key));
        let name = group.name_any();
        Some((named.cloned().or_else(|| kept(&name))?, name))
    });
    let unreadable =
        observed.unreadable_groups.iter().filter_map(|name| Some((kept(name)?, name.clone())));
    wanted.chain(unreadable).map(|(url, name)| (name, url.0)).collect()
}

fn runs_untold(pod: &Pod, hash: &str) -> bool {
    let component = pod.labels().get("app.kubernetes.io/component").map(String::as_str);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    component == Some("member")
        && !pod.labels().contains_key(labels::ETCD_MEMBER)
        && phase == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && pod.annotations().get(CREDENTIALS).map(String::as_str) != Some(hash)
}

/// Keys of groups that are gone; the registry was read before the groups were listed.
fn forgotten(cluster: &Cluster, observed: &Observed) -> Vec<Change> {
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

/// Sixteen hexadecimal digits of the SHA-256 of a value's JSON.
pub fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("Kubernetes objects are plain data");
    Sha256::digest(text).iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
