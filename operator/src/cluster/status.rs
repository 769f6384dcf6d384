//! Owns what a CacheCluster's status says: a pure judgement of what was observed and applied, and
//! the one patch that writes it, when it changed.
//!
//! Status comes from the truth: ready pods of the newest template that also stand in the registry,
//! and etcd's own member list.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::{Keys, Named};
use larder_proto::registry::Registration;
use serde_json::json;

use super::apply::Applied;
use super::build::labels::{self, Component, MANAGER};
use super::observe::{Observed, is_ready};
use super::plan::seen::trouble;
use super::plan::{Health, Plan};
use super::validate::Cluster;
use crate::api::status::{ETCD_READY, MEMBERS_READY, READY};
use crate::api::{CacheCluster, CacheClusterStatus};
use crate::conditions::{Finding, chain};

/// The status of a cluster that was reconciled.
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
    let whole = Finding::yes("Ready", members.message.clone());
    let findings = Findings { ready: Finding::all(&[&members, &etcd], whole), etcd, members };
    CacheClusterStatus {
        members: set.replicas,
        ready_members,
        ready: format!("{ready_members}/{}", cluster.members),
        selector: labels::selector_text(&cluster.name, Component::Member),
        ring_revision: registered.and_then(|members| members.values().map(|m| m.1).max()),
        ..findings.status(&observed.cluster, &observed.now)
    }
}

/// The status of a cluster that cannot be reconciled as it is written: counts stay as they were.
#[must_use]
pub fn refused(
    cluster: &CacheCluster,
    reason: &'static str,
    message: &str,
    now: &Time,
) -> CacheClusterStatus {
    let standing = cluster.status.clone().unwrap_or_default();
    let no = Finding::no(reason, message);
    let findings = Findings { ready: no.clone(), etcd: no.clone(), members: no };
    CacheClusterStatus {
        members: standing.members,
        ready_members: standing.ready_members,
        ready: standing.ready,
        selector: standing.selector,
        ring_revision: standing.ring_revision,
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
        let standing = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let generation = cluster.metadata.generation;
        let all = [(READY, &self.ready), (ETCD_READY, &self.etcd), (MEMBERS_READY, &self.members)];
        let conditions =
            all.map(|(type_, found)| found.condition(type_, standing, generation, now));
        CacheClusterStatus {
            observed_generation: generation,
            conditions: conditions.into(),
            ..CacheClusterStatus::default()
        }
    }
}

/// Uid and revision of each registered member by name; nothing while the registry is not known.
fn registered(cluster: &Cluster, observed: &Observed) -> Option<BTreeMap<String, (String, i64)>> {
    let keys = Keys::new(&cluster.namespace, &cluster.name);
    let listing = observed.registry.as_ref().ok()?;
    let members = listing.entries.iter().filter_map(|entry| {
        let Some(Named::Member(name)) = keys.parse(&entry.key) else { return None };
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
    // Until the StatefulSet's own status speaks of what was just applied, its counts are of
    // yesterday.
    if status.observed_generation.unwrap_or(0) < set.metadata.generation.unwrap_or(0) {
        return Finding::no("Updating", format!("{sentence}; a change was just made"));
    }
    if ready < wanted {
        return Finding::no("MembersNotReady", sentence + &first_unready(pods));
    }
    if status.replicas > wanted {
        let extra = status.replicas - wanted;
        return Finding::no("ScalingIn", format!("{sentence}; {extra} more are leaving"));
    }
    let updated = status.updated_replicas.unwrap_or(0);
    if updated < wanted {
        let message = format!("{sentence}; {updated} run the newest configuration");
        return Finding::no("RollingOut", message);
    }
    let stranger = registered.and_then(|registered| {
        pods.iter().filter(|pod| is_ready(pod)).find(|pod| {
            let uid = registered.get(&pod.name_any()).map(|(uid, _)| uid);
            uid != pod.metadata.uid.as_ref()
        })
    });
    match stranger {
        Some(pod) => Finding::no(
            "NotRegistered",
            format!("{sentence}; {} is not in the registry yet", pod.name_any()),
        ),
        None => Finding::yes("AllReady", sentence),
    }
}

fn etcd(observed: &Observed, plan: Option<&Plan>) -> Finding {
    let alarms: Vec<&str> =
        observed.etcd.answers.values().flat_map(|a| &a.troubles).map(String::as_str).collect();
    let Some(plan) = plan else {
        return match &observed.registry {
            Ok(_) => Finding::yes("Reachable", "the external etcd answers"),
            Err(error) => Finding::no(
                "Unreachable",
                format!(
                    "{}; check spec.etcd.external and that pods may reach it. Reads go on",
                    chain(error)
                ),
            ),
        };
    };
    match (&plan.health, &observed.registry) {
        (Health::Healthy, Ok(_)) if alarms.is_empty() => etcd_pods(observed, plan),
        (Health::Healthy, Ok(_)) => {
            Finding::no("Alarm", format!("etcd says: {}", alarms.join("; ")))
        }
        (Health::Healthy, Err(error)) => Finding::no("Unreachable", chain(error)),
        (Health::Starting { trouble }, _) => {
            let why = trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
            Finding::no("Starting", format!("the first etcd member is starting{why}"))
        }
        (Health::Converging { healthy, voters, down }, _) => {
            let reason = if healthy < voters { "MemberDown" } else { "Converging" };
            let message = format!("{healthy} of {voters} etcd voters answer{}", named(down));
            Finding::no(reason, message)
        }
        (Health::NoQuorum { down }, _) => Finding::no(
            "QuorumLost",
            format!(
                "etcd has no quorum{}. Reads go on. Members come back by themselves, or all are \
                 made anew once the data of most is known to be gone; deleting the StatefulSets of \
                 dead members says so",
                named(down)
            ),
        ),
        (Health::Rebuilding, _) => Finding::no(
            "Rebuilding",
            "etcd had lost its quorum for good and is made anew; the registry fills itself again",
        ),
    }
}

/// Every etcd member answers. Its pod is called ready some seconds later, and only then does the
/// client Service send requests to it.
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

/// Names the first pod that is not ready, says why and how to learn more; empty when all are.
fn first_unready(pods: &[&Pod]) -> String {
    pods.iter().find(|pod| !is_ready(pod)).map_or_else(String::new, |pod| {
        let name = pod.name_any();
        let trouble = trouble(pod).unwrap_or_else(|| "is not ready yet".into());
        format!("; {name}: {trouble} (kubectl describe pod {name})")
    })
}

fn named(down: &[(String, Option<String>)]) -> String {
    let say = |(name, trouble): &(String, Option<String>)| match trouble {
        Some(trouble) => format!("{name}: {trouble}"),
        None => name.clone(),
    };
    let said: Vec<String> = down.iter().map(say).collect();
    if said.is_empty() { String::new() } else { format!("; waiting for {}", said.join(", ")) }
}

/// Writes `status` unless it stands; tells whether it wrote.
///
/// # Errors
/// When the API server does not take it.
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
        // The uid keeps a status from landing on a successor of the same name.
        "metadata": {"name": cluster.name_any(), "uid": cluster.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&cluster.name_any(), &params, &Patch::Apply(&patch)).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
