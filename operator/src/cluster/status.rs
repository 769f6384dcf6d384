//! Owns the status of a CacheCluster: computed, without side effects, from what was observed and
//! applied, and written in one patch when it changed.
//!
//! It counts what really serves: ready pods of the newest template that are also in the registry,
//! and etcd's own member list.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::{Keys, ParsedKey};
use larder_proto::registry::Registration;
use serde_json::json;

use super::apply::Applied;
use super::labels::{self, Component, MANAGER};
use super::observe::Observed;
use super::plan::{Health, Plan};
use super::pods::{is_ready, trouble};
use super::validate::Cluster;
use crate::api::status::{ETCD_READY, MEMBERS_READY, READY};
use crate::api::{CacheCluster, CacheClusterStatus};
use crate::conditions::{Finding, chain};

/// The status of a CacheCluster that was reconciled.
#[must_use]
pub fn status(
    cluster: &Cluster,
    observed: &Observed,
    plan: Option<&Plan>,
    applied: &Applied,
) -> CacheClusterStatus {
    let registered = registered(cluster, observed);
    let pods = member_pods(cluster, observed);
    let set = applied.members.status.clone().unwrap_or_default();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let ready_members =
        i32::try_from(ready).unwrap_or(i32::MAX).min(set.ready_replicas.unwrap_or(0));
    let etcd = etcd(observed, plan);
    let members = members(cluster, &applied.members, &pods, ready_members, registered.as_ref());
    let all_hold = Finding::yes("Ready", members.message.clone());
    let ready = Finding::first_failure(&[&members, &etcd], all_hold);
    let findings = Findings { ready, etcd, members };
    CacheClusterStatus {
        members: set.replicas,
        ready_members,
        ready: format!("{ready_members}/{}", cluster.members),
        selector: labels::selector_text(&cluster.name, Component::Member),
        ring_revision: registered.and_then(|members| members.values().map(|m| m.1).max()),
        ..findings.status(&observed.cluster, &observed.now)
    }
}

/// The status of a CacheCluster whose spec cannot be reconciled. Counts stay as they were.
#[must_use]
pub fn refused(
    cluster: &CacheCluster,
    reason: &'static str,
    message: &str,
    now: &Time,
) -> CacheClusterStatus {
    let previous = cluster.status.clone().unwrap_or_default();
    let no = Finding::no(reason, message);
    let findings = Findings { ready: no.clone(), etcd: no.clone(), members: no };
    CacheClusterStatus {
        members: previous.members,
        ready_members: previous.ready_members,
        ready: previous.ready,
        selector: previous.selector,
        ring_revision: previous.ring_revision,
        ..findings.status(cluster, now)
    }
}

struct Findings {
    ready: Finding,
    etcd: Finding,
    members: Finding,
}

impl Findings {
    fn status(&self, cluster: &CacheCluster, now: &Time) -> CacheClusterStatus {
        let previous = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let generation = cluster.metadata.generation;
        let findings =
            [(READY, &self.ready), (ETCD_READY, &self.etcd), (MEMBERS_READY, &self.members)];
        let conditions =
            findings.map(|(type_, finding)| finding.condition(type_, previous, generation, now));
        CacheClusterStatus {
            observed_generation: generation,
            conditions: conditions.into(),
            ..CacheClusterStatus::default()
        }
    }
}

/// Uid and revision of each registered member by name; `None` when the registry was not read.
fn registered(cluster: &Cluster, observed: &Observed) -> Option<BTreeMap<String, (String, i64)>> {
    let keys = Keys::new(&cluster.namespace, &cluster.name);
    let listing = observed.registry.as_ref().ok()?;
    let members = listing.entries.iter().filter_map(|entry| {
        let Some(ParsedKey::Member(name)) = keys.parse(&entry.key) else { return None };
        let registration: Registration = serde_json::from_slice(&entry.value).ok()?;
        Some((name.to_owned(), (registration.metadata.uid, entry.changed)))
    });
    Some(members.collect())
}

fn member_pods<'o>(cluster: &Cluster, observed: &'o Observed) -> Vec<&'o Pod> {
    let selector = labels::selector(&cluster.name, Component::Member);
    let selected = |pod: &&Pod| selector.iter().all(|(k, v)| pod.labels().get(k) == Some(v));
    observed.children.pods.iter().filter(selected).collect()
}

fn members(
    cluster: &Cluster,
    set: &StatefulSet,
    pods: &[&Pod],
    ready: i32,
    registered: Option<&BTreeMap<String, (String, i64)>>,
) -> Finding {
    let wanted = cluster.members;
    let status = set.status.clone().unwrap_or_default();
    let sentence = format!("{ready} of {wanted} members are ready");
    // The counts are outdated until the StatefulSet's status is of the generation just applied.
    if status.observed_generation.unwrap_or(0) < set.metadata.generation.unwrap_or(0) {
        return Finding::no("Updating", format!("{sentence}; a change was just applied"));
    }
    if ready < wanted {
        return Finding::no("MembersNotReady", sentence + &first_unready(pods));
    }
    if status.replicas > wanted {
        let extra = status.replicas - wanted;
        return Finding::no("ScalingIn", format!("{sentence}; {extra} more are being removed"));
    }
    let updated = status.updated_replicas.unwrap_or(0);
    if updated < wanted {
        let message = format!("{sentence}; {updated} run the newest configuration");
        return Finding::no("RollingOut", message);
    }
    let unregistered = registered.and_then(|registered| {
        pods.iter().filter(|pod| is_ready(pod)).find(|pod| {
            let uid = registered.get(&pod.name_any()).map(|(uid, _)| uid);
            uid != pod.metadata.uid.as_ref()
        })
    });
    match unregistered {
        Some(pod) => Finding::no(
            "NotRegistered",
            format!("{sentence}; {} is not in the registry yet", pod.name_any()),
        ),
        None => Finding::yes("AllReady", sentence),
    }
}

fn etcd(observed: &Observed, plan: Option<&Plan>) -> Finding {
    let alarms: Vec<&str> =
        observed.etcd.members.values().flat_map(|m| &m.errors).map(String::as_str).collect();
    let Some(plan) = plan else {
        return match &observed.registry {
            Ok(_) => Finding::yes("Reachable", "the external etcd answers"),
            Err(error) => Finding::no(
                "Unreachable",
                format!(
                    "{}; check spec.etcd.external and the network path to it. Reads continue",
                    chain(error)
                ),
            ),
        };
    };
    match (&plan.health, &observed.registry) {
        (Health::Healthy, Ok(_)) if alarms.is_empty() => etcd_pods(observed, plan),
        (Health::Healthy, Ok(_)) => {
            Finding::no("Alarm", format!("etcd reports: {}", alarms.join("; ")))
        }
        (Health::Healthy, Err(error)) => Finding::no("Unreachable", chain(error)),
        (Health::Starting { trouble }, _) => {
            let why = trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
            Finding::no("Starting", format!("the first etcd member is starting{why}"))
        }
        (Health::Converging { healthy, voters, down }, _) => {
            let reason = if healthy < voters { "MemberDown" } else { "Converging" };
            let message = format!("{healthy} of {voters} etcd voters answer{}", waiting_for(down));
            Finding::no(reason, message)
        }
        (Health::NoQuorum { down }, _) => Finding::no(
            "QuorumLost",
            format!(
                "etcd has no quorum{}. Reads continue. Members that still have their data rejoin \
                 by themselves. When most have lost it, a new etcd cluster is started; delete the \
                 StatefulSets of members that cannot come back to start it now",
                waiting_for(down)
            ),
        ),
        (Health::Rebuilding, _) => Finding::no(
            "Rebuilding",
            "etcd lost its quorum for good and a new cluster is starting; members register again",
        ),
    }
}

/// For a cluster whose every member answers: the kubelet marks a pod as ready up to some seconds
/// later, and the client Service sends no requests to it before.
fn etcd_pods(observed: &Observed, plan: &Plan) -> Finding {
    let planned = |pod: &&Pod| {
        let name = pod.labels().get(labels::ETCD_MEMBER);
        plan.members.iter().any(|member| name == Some(&member.name))
    };
    let pods: Vec<&Pod> = observed.children.pods.iter().filter(planned).collect();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let wanted = plan.members.len();
    if ready < wanted {
        let message = format!("{ready} of {wanted} etcd pods are ready{}", first_unready(&pods));
        return Finding::no("PodsNotReady", message);
    }
    Finding::yes("Healthy", "every etcd member answers and its pod is ready")
}

/// Names the first pod that is not ready, why, and how to find out more; empty when all are ready.
fn first_unready(pods: &[&Pod]) -> String {
    pods.iter().find(|pod| !is_ready(pod)).map_or_else(String::new, |pod| {
        let name = pod.name_any();
        let trouble = trouble(pod).unwrap_or_else(|| "is not ready yet".into());
        format!("; {name}: {trouble} (kubectl describe pod {name})")
    })
}

fn waiting_for(down: &[(String, Option<String>)]) -> String {
    let describe = |(name, trouble): &(String, Option<String>)| match trouble {
        Some(trouble) => format!("{name}: {trouble}"),
        None => name.clone(),
    };
    let members: Vec<String> = down.iter().map(describe).collect();
    if members.is_empty() { String::new() } else { format!("; waiting for {}", members.join(", ")) }
}

/// Writes `status` unless the object has it already; true when it was written.
///
/// # Errors
/// When the write fails.
pub async fn write(
    client: &Client,
    cluster: &CacheCluster,
    status: &CacheClusterStatus,
) -> Result<bool, kube::Error> {
    if cluster.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<CacheCluster> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "CacheCluster",
        // With the uid, a new object of the same name does not get this status.
        "metadata": {"name": cluster.name_any(), "uid": cluster.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&cluster.name_any(), &params, &Patch::Apply(&patch)).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
