//! Owns what every pod of the operator has in common: the `restricted` Pod Security standard, no
//! service-account token, HTTP probes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ContainerPort, HTTPGetAction, LocalObjectReference, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, Probe, SeccompProfile, SecurityContext,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::cluster::StorageSpec;
use crate::cluster::validate::Cluster;

/// User and group of every process; the images contain no other.
pub const USER: i64 = 65_532;

/// A pod spec without containers: identity, scheduling, image pull secrets.
pub(super) fn spec(cluster: &Cluster, grace_seconds: i64) -> PodSpec {
    let scheduling = &cluster.scheduling;
    let secrets = cluster.image_pull_secrets.iter();
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: none_if_empty(
            secrets.map(|name| LocalObjectReference { name: name.clone() }).collect(),
        ),
        node_selector: (!scheduling.node_selector.is_empty())
            .then(|| scheduling.node_selector.clone()),
        priority_class_name: scheduling.priority_class_name.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(grace_seconds),
        tolerations: none_if_empty(scheduling.tolerations.clone()),
        ..PodSpec::default()
    }
}

/// The security context of every container.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// A named TCP port.
pub(super) fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: i32::from(number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// A probe of `path` on the named port every `period_seconds`; it fails after `failures` in a row.
pub(super) fn probe(path: &str, port: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// `None` for an empty list, so that the field is left out.
pub(super) fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Panics unless a pod passes the `restricted` Pod Security standard and this project's own rules.
/// A volume of each pod of a StatefulSet.
pub(super) fn claim(name: &str, storage: &StorageSpec) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".into(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: storage.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

#[cfg(test)]
pub(super) fn assert_restricted(spec: &PodSpec) {
    let pod = spec.security_context.as_ref().expect("a security context");
    assert_eq!(pod.run_as_non_root, Some(true));
    assert_eq!(pod.run_as_user, Some(USER));
    assert_eq!(pod.seccomp_profile.as_ref().expect("a profile").type_, "RuntimeDefault");
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert!(!spec.containers.is_empty());
    for container in &spec.containers {
        let security = container.security_context.as_ref().expect("a security context");
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.read_only_root_filesystem, Some(true));
        let drop = security.capabilities.as_ref().and_then(|c| c.drop.clone());
        assert_eq!(drop, Some(vec!["ALL".into()]));
        assert!(container.resources.as_ref().is_some_and(|r| r.limits.is_some()));
    }
    for volume in spec.volumes.iter().flatten() {
        assert!(volume.host_path.is_none(), "{}", volume.name);
    }
}
