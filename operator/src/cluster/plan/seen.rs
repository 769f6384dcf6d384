//! Owns the reading of Kubernetes objects as the plan sees them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{EtcdMember, Loss, Naming, Seen, Slot, Start};
use crate::cluster::build::etcd::read;
use crate::cluster::build::etcd::statefulset::{CONFIG_HASH, MEMBER_STATE};
use crate::cluster::build::labels;
use crate::cluster::observe::{Children, Observed};

/// A durable member whose pod finds no place gets this long: a Kubernetes node that restarts takes
/// about a minute.
const PLACE_SECONDS: i64 = 120;
/// Beyond its grace time a pod that still exists hangs on a node that does not answer.
const HANGING_SECONDS: i64 = 30;
/// With the kubelet's backoff of 10, 20, 40 seconds so many restarts take more than a minute.
const CRASHES: i32 = 4;
/// How etcd says that it found no data and may not begin without, in its own words.
const EMPTY: [&str; 3] =
    ["cannot fetch cluster info", "member count is unequal", "couldn't find local name"];

/// What the plan sees of a managed etcd cluster with `wanted` voters, `durable` when members have
/// volumes; `newest` tells the hash of a member's newest configuration.
#[must_use]
pub fn seen(
    observed: &Observed,
    naming: Naming,
    wanted: usize,
    durable: bool,
    newest: &dyn Fn(&EtcdMember) -> Option<String>,
) -> Seen {
    let Children { stateful_sets, pods, claims, .. } = &observed.children;
    let labelled = |labels: &BTreeMap<String, String>| labels.get(labels::ETCD_MEMBER).cloned();
    let sets: Vec<(&StatefulSet, EtcdMember)> = stateful_sets
        .iter()
        .filter(|set| labelled(set.labels()).is_some())
        .map(|set| (set, member(set)))
        .collect();
    let of_pods = pods.iter().filter_map(incarnation);
    let of_sets = sets.iter().map(|(_, member)| member.incarnation);
    let last_incarnation = of_pods.chain(of_sets).max().unwrap_or(0);
    let names = pods.iter().map(|pod| labelled(pod.labels()));
    let remains = names.chain(claims.iter().map(|claim| labelled(claim.labels())));
    let remains = remains.flatten().filter_map(|name| naming.ordinal(&name)).collect();
    let slots = sets.into_iter().map(|(set, member)| {
        let newest = newest(&member);
        Look { set, observed, newest, durable }.slot(member)
    });
    Seen { wanted, slots: slots.collect(), naming, remains, last_incarnation }
}

/// The member that a StatefulSet stands for, by its annotation or, if somebody took that away, by
/// its template's.
fn member(set: &StatefulSet) -> EtcdMember {
    let by_template = || {
        let template = set.spec.template.metadata.clone().unwrap_or_default();
        let metadata = ObjectMeta { name: set.metadata.name.clone(), ..template };
        read(&StatefulSet { metadata, ..StatefulSet::default() })
    };
    read(set).or_else(by_template).unwrap_or_else(|| EtcdMember {
        name: set.name_any(),
        incarnation: 0,
        start: Start::Join { initial_cluster: Vec::new() },
    })
}

/// The incarnation for which a pod was made.
fn incarnation(pod: &Pod) -> Option<u64> {
    let state = pod.annotations().get(MEMBER_STATE)?;
    serde_json::from_str::<serde_json::Value>(state).ok()?.get("incarnation")?.as_u64()
}

/// One member's objects.
struct Look<'o> {
    set: &'o StatefulSet,
    observed: &'o Observed,
    newest: Option<String>,
    durable: bool,
}

impl Look<'_> {
    fn slot(&self, member: EtcdMember) -> Slot {
        let EtcdMember { name, incarnation, start } = member;
        let pod_name = format!("{name}-0");
        let pod = self.observed.children.pods.iter().find(|pod| pod.name_any() == pod_name);
        let claim_name = format!("data-{pod_name}");
        let claims = &self.observed.children.claims;
        let claim = claims.iter().find(|claim| claim.name_any() == claim_name);
        let data = if self.durable {
            claim
                .filter(|claim| claim.metadata.deletion_timestamp.is_none())
                .and_then(ResourceExt::uid)
        } else {
            pod.filter(|pod| keeps_scratch(pod)).and_then(ResourceExt::uid)
        };
        Slot {
            incarnation,
            terminating: self.set.metadata.deletion_timestamp.is_some(),
            durable: self.durable,
            lost: self.loss(&start, data.as_deref(), pod, claim),
            outdated: pod.is_some_and(|pod| self.outdated(&start, pod)),
            trouble: pod.and_then(trouble),
            answer: self.observed.etcd.answers.get(&pod_name).cloned(),
            pod: pod.map(|_| pod_name),
            name,
            start,
            data,
        }
    }

    fn loss(
        &self,
        start: &Start,
        data: Option<&str>,
        pod: Option<&Pod>,
        claim: Option<&PersistentVolumeClaim>,
    ) -> Option<Loss> {
        let sealed_with = match start {
            Start::Sealed { data } => Some(data.as_str()),
            Start::Seed | Start::Join { .. } => None,
        };
        let container = pod.and_then(container);
        if sealed_with.is_some() && (sealed_with != data || container.is_some_and(says_empty)) {
            return Some(Loss::Data);
        }
        if container.is_some_and(crashes) {
            return Some(Loss::Crashes);
        }
        let homeless = pod.and_then(homeless_since).or_else(|| claim.and_then(lost_claim));
        let seconds = homeless.map(|since| self.observed.now.0.as_second() - since.0.as_second());
        (seconds? > PLACE_SECONDS).then_some(Loss::Place)
    }

    fn outdated(&self, start: &Start, pod: &Pod) -> bool {
        let (has, state) = (pod.annotations(), self.set.annotations().get(MEMBER_STATE));
        // Sealing changes the template under a running member, which is what it is for.
        let unsealed = !matches!(start, Start::Sealed { .. });
        has.get(CONFIG_HASH) != self.newest.as_ref()
            || (unsealed && state.is_some() && has.get(MEMBER_STATE) != state)
    }
}

/// An emptied directory goes with the pod; a pod that ended or is leaving has lost it.
fn keeps_scratch(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn says_empty(container: &ContainerStatus) -> bool {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let mut words =
        states.into_iter().filter_map(|state| state?.terminated.as_ref()?.message.as_deref());
    !container.ready && words.any(|words| EMPTY.iter().any(|empty| words.contains(empty)))
}

fn crashes(container: &ContainerStatus) -> bool {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    // Too little memory is no fault of the data.
    let oom = last.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    container.restart_count >= CRASHES && !container.ready && !oom && last.is_some()
}

/// Since when the pod has had no place to run, if it has none.
fn homeless_since(pod: &Pod) -> Option<Time> {
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        // The timestamp already contains the grace time.
        let hanging = deleted.0.as_second() + HANGING_SECONDS - PLACE_SECONDS;
        return Timestamp::from_second(hanging).ok().map(Time);
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    unscheduled.and_then(|condition| condition.last_transition_time.clone())
}

/// A claim whose volume is gone, since it was made.
fn lost_claim(claim: &PersistentVolumeClaim) -> Option<Time> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    (phase == "Lost").then(|| claim.metadata.creation_timestamp.clone()).flatten()
}

/// Why a pod does not run, in Kubernetes' words.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = container(pod).and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.clone()?;
        return Some(match &waiting.message {
            Some(message) => format!("{reason}: {message}"),
            None => reason,
        });
    }
    let conditions = status.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    unscheduled?.message.clone()
}

#[cfg(test)]
mod tests;
