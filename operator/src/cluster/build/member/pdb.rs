//! Owns the PodDisruptionBudget of the members.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::metadata::metadata;
use crate::cluster::labels::{self, Component};
use crate::cluster::names;
use crate::cluster::validate::Cluster;

/// Limits how many members can be evicted at one time. A member that is not ready serves no
/// requests and can always be evicted: otherwise one broken member would block every node drain.
#[must_use]
pub fn budget(cluster: &Cluster) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(cluster, names::cluster(&cluster.name), Component::Member),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(cluster.max_unavailable)),
            selector: Some(labels::label_selector(&cluster.name, Component::Member)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    #[test]
    fn one_member_can_be_evicted_at_a_time_by_default() {
        let of = |spec| budget(&example(spec)).spec.expect("a spec");
        assert_eq!(of("{memory: 64Mi}").max_unavailable, Some(IntOrString::Int(1)));
        assert_eq!(of("{memory: 64Mi}").unhealthy_pod_eviction_policy.unwrap(), "AlwaysAllow");
        let two = of("{memory: 64Mi, podDisruption: {maxUnavailable: 2}}");
        assert_eq!(two.max_unavailable, Some(IntOrString::Int(2)));
    }
}
