//! Owns the PodDisruptionBudget of a managed etcd.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::metadata::metadata;
use crate::cluster::labels::{self, Component};
use crate::cluster::names;
use crate::cluster::validate::{Cluster, ManagedEtcd};

/// Keeps a quorum of ready voters. A single member gets no budget: it would only block the drain of
/// its Kubernetes node, and the registry can be recreated.
#[must_use]
pub fn budget(cluster: &Cluster, etcd: &ManagedEtcd) -> Option<PodDisruptionBudget> {
    let quorum = etcd.members / 2 + 1;
    (etcd.members > 1).then(|| PodDisruptionBudget {
        metadata: metadata(cluster, names::etcd(&cluster.name), Component::Etcd),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(quorum)),
            selector: Some(labels::label_selector(&cluster.name, Component::Etcd)),
            // A voter that is not ready may be about to recover. It must not be evicted while the
            // quorum depends on it.
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::Etcd;
    use crate::cluster::validate::example;

    fn of(spec: &str) -> Option<PodDisruptionBudget> {
        let cluster = example(spec);
        let Etcd::Managed(etcd) = cluster.etcd.clone() else { panic!("managed") };
        budget(&cluster, &etcd)
    }

    #[test]
    fn one_of_three_can_be_evicted_and_a_single_member_has_no_budget() {
        let budget = of("{memory: 64Mi}").expect("three members");
        assert_eq!(budget.spec.unwrap().min_available, Some(IntOrString::Int(2)));
        assert_eq!(of("{memory: 64Mi, etcd: {managed: {members: 1}}}"), None);
    }
}
