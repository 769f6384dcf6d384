//! Owns the state of a managed etcd cluster as the plan needs it, read from Kubernetes objects and
//! etcd's own answers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::member::{EtcdMember, Start};
use super::naming::Naming;
use crate::cluster::annotations::{CONFIG_HASH, ETCD_STATE};
use crate::cluster::observe::{Children, Observed};
use crate::cluster::pods::{container, trouble};
use crate::cluster::validate::{Cluster, ManagedEtcd};
use crate::cluster::{labels, names};
use crate::etcd::MemberStatus;

/// A durable member whose pod has no Kubernetes node is given up after this time: a node that
/// restarts takes about a minute.
const NO_NODE_SECONDS: i64 = 120;
/// A pod that still exists this long after its grace period is on a node that does not answer.
const HANGING_SECONDS: i64 = 30;
/// With the kubelet's back-off of 10, 20 and 40 seconds this many restarts take over a minute.
const CRASHES: i32 = 4;
/// Messages with which etcd refuses to start because it found no data.
const NO_DATA_MESSAGES: [&str; 3] =
    ["cannot fetch cluster info", "member count is unequal", "couldn't find local name"];

/// The state of one managed etcd cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdState {
    /// Number of voters wanted, 1 or 3.
    pub wanted: usize,
    /// Names and peer URLs of the members.
    pub naming: Naming,
    /// The StatefulSets that exist, of every incarnation.
    pub slots: Vec<Slot>,
    /// Ordinals that a pod or a volume still carries, even when the StatefulSet is gone.
    pub used_ordinals: BTreeSet<u32>,
    /// The highest incarnation of any remaining object; 0 when there is none.
    pub last_incarnation: u64,
}

/// One member's StatefulSet with its pod, its data, and the member's own status.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name of the StatefulSet and of the member.
    pub name: String,
    /// Incarnation of the etcd cluster that it was created for.
    pub incarnation: u64,
    /// How its template starts a member.
    pub start: Start,
    /// The StatefulSet is being deleted.
    pub terminating: bool,
    /// Identity of the data that the pod has or would get now; none without a pod and a volume.
    pub data: Option<String>,
    /// The data outlives the pod.
    pub durable: bool,
    /// Why the member will not come back, even though its pod may.
    pub lost: Option<Loss>,
    /// The pod has an older configuration, or would start in an older way.
    pub outdated: bool,
    /// The pod's name, when it exists.
    pub pod: Option<String>,
    /// Why the pod does not run, in Kubernetes' words.
    pub trouble: Option<String>,
    /// The member's own status; none when it does not answer.
    pub status: Option<MemberStatus>,
}

/// Why a member will not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A sealed member's pod has other data than it was sealed with, or etcd found none.
    Data,
    /// It crashes repeatedly.
    Crashes,
    /// Its pod cannot be scheduled, or is stuck on a dead Kubernetes node, for longer than a node
    /// takes to restart.
    NoNode,
}

/// The state of the managed etcd cluster of `cluster`. `newest` returns the hash of a member's
/// newest configuration.
#[must_use]
pub fn read(
    observed: &Observed,
    cluster: &Cluster,
    etcd: &ManagedEtcd,
    newest: &dyn Fn(&EtcdMember) -> Option<String>,
) -> EtcdState {
    let naming = Naming::new(&cluster.namespace, &cluster.name);
    let wanted = usize::try_from(etcd.members).unwrap_or(1);
    let durable = etcd.storage.is_some();
    let Children { stateful_sets, pods, claims, .. } = &observed.children;
    let labelled = |labels: &BTreeMap<String, String>| labels.get(labels::ETCD_MEMBER).cloned();
    let sets: Vec<(&StatefulSet, EtcdMember)> = stateful_sets
        .iter()
        .filter(|set| labelled(set.labels()).is_some())
        .map(|set| (set, member(set)))
        .collect();
    let of_pods = pods.iter().filter_map(|pod| EtcdMember::incarnation_in(pod.annotations()));
    let of_sets = sets.iter().map(|(_, member)| member.incarnation);
    let last_incarnation = of_pods.chain(of_sets).max().unwrap_or(0);
    let remaining = pods.iter().map(|pod| labelled(pod.labels()));
    let remaining = remaining.chain(claims.iter().map(|claim| labelled(claim.labels())));
    let used_ordinals = remaining.flatten().filter_map(|name| naming.ordinal(&name)).collect();
    let slots = sets.into_iter().map(|(set, member)| {
        let newest = newest(&member);
        MemberObjects { set, observed, newest, durable }.slot(member)
    });
    EtcdState { wanted, slots: slots.collect(), naming, used_ordinals, last_incarnation }
}

/// The member of a StatefulSet, from its annotation or, when somebody removed that, from its
/// template's.
fn member(set: &StatefulSet) -> EtcdMember {
    let name = set.name_any();
    let template = set.spec.template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
    let sources = [Some(set.annotations()), template];
    let read = sources.into_iter().flatten().find_map(|a| EtcdMember::from_annotations(&name, a));
    read.unwrap_or_else(|| EtcdMember {
        name,
        incarnation: 0,
        start: Start::Join { initial_cluster: Vec::new() },
    })
}

/// What one member's slot is read from.
struct MemberObjects<'o> {
    set: &'o StatefulSet,
    observed: &'o Observed,
    newest: Option<String>,
    durable: bool,
}

impl MemberObjects<'_> {
    fn slot(&self, member: EtcdMember) -> Slot {
        let EtcdMember { name, incarnation, start } = member;
        let pod_name = names::etcd_pod(&name);
        let pod = self.observed.children.pods.iter().find(|pod| pod.name_any() == pod_name);
        let claim_name = format!("data-{pod_name}");
        let claims = &self.observed.children.claims;
        let claim = claims.iter().find(|claim| claim.name_any() == claim_name);
        let data = if self.durable {
            claim
                .filter(|claim| claim.metadata.deletion_timestamp.is_none())
                .and_then(ResourceExt::uid)
        } else {
            pod.filter(|pod| keeps_empty_dir(pod)).and_then(ResourceExt::uid)
        };
        Slot {
            incarnation,
            terminating: self.set.metadata.deletion_timestamp.is_some(),
            durable: self.durable,
            lost: self.loss(&start, data.as_deref(), pod, claim),
            outdated: pod.is_some_and(|pod| self.outdated(&start, pod)),
            trouble: pod.and_then(trouble),
            status: self.observed.etcd.members.get(&pod_name).cloned(),
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
        if sealed_with.is_some() && (sealed_with != data || container.is_some_and(reports_no_data))
        {
            return Some(Loss::Data);
        }
        if container.is_some_and(crashes) {
            return Some(Loss::Crashes);
        }
        let since = pod.and_then(without_node_since).or_else(|| claim.and_then(lost_claim))?;
        let seconds = self.observed.now.0.as_second() - since.0.as_second();
        (seconds > NO_NODE_SECONDS).then_some(Loss::NoNode)
    }

    fn outdated(&self, start: &Start, pod: &Pod) -> bool {
        let (has, state) = (pod.annotations(), self.set.annotations().get(ETCD_STATE));
        // Sealing changes the template of a running member on purpose.
        let unsealed = !matches!(start, Start::Sealed { .. });
        has.get(CONFIG_HASH) != self.newest.as_ref()
            || (unsealed && state.is_some() && has.get(ETCD_STATE) != state)
    }
}

/// An emptyDir is deleted with its pod: a pod that ended or is being deleted has lost its data.
fn keeps_empty_dir(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn reports_no_data(container: &ContainerStatus) -> bool {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let mut messages =
        states.into_iter().filter_map(|state| state?.terminated.as_ref()?.message.as_deref());
    !container.ready && messages.any(|text| NO_DATA_MESSAGES.iter().any(|no| text.contains(no)))
}

fn crashes(container: &ContainerStatus) -> bool {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    // A container that ran out of memory has not lost its data.
    let oom = last.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    container.restart_count >= CRASHES && !container.ready && !oom && last.is_some()
}

/// Since when the pod has had no working Kubernetes node; `None` when it has one.
fn without_node_since(pod: &Pod) -> Option<Time> {
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        // The timestamp already includes the grace period.
        let hanging = deleted.0.as_second() + HANGING_SECONDS - NO_NODE_SECONDS;
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

/// Creation time of a claim whose volume is gone. When the volume went is not recorded.
fn lost_claim(claim: &PersistentVolumeClaim) -> Option<Time> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    (phase == "Lost").then(|| claim.metadata.creation_timestamp.clone()).flatten()
}

#[cfg(test)]
mod tests;
