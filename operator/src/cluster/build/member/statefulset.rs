//! Owns the members' StatefulSet. Its ordinals are the members' identities in the ring.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, PodTemplateSpec,
    ResourceRequirements, SecretVolumeSource, SleepAction, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use larder_proto::names::{ADMIN_PORT, GRPC_PORT, HTTP_PORT, PEER_PORT};

use super::super::metadata::metadata;
use super::super::node_config::{
    CONFIG_DIRECTORY, CONFIG_FILE, CREDENTIALS_DIRECTORY, DRAIN_SECONDS, ETCD_TLS_DIRECTORY,
    SNAPSHOT_DIRECTORY, snapshot_bytes,
};
use super::super::{monitoring, pod};
use crate::cluster::annotations::{CONFIG_HASH, hash};
use crate::cluster::labels::{self, Component};
use crate::cluster::names;
use crate::cluster::validate::{Cluster, Etcd};

/// Time between the start of a pod's deletion and SIGTERM, in which it still serves while Services
/// stop sending requests to it. kube-proxy and clients' resolvers follow within one to two seconds.
const LEAVE_SECONDS: i64 = 3;
/// Time after the drain in which the process exits by itself, seconds.
const EXIT_SECONDS: i64 = 7;

const CONFIG: &str = "config";
const CREDENTIALS: &str = "credentials";
const ETCD_TLS: &str = "etcd-tls";
const SNAPSHOT: &str = "snapshot";

/// The members' StatefulSet. A change of `config` restarts the members, because they read the file
/// once, at start.
#[must_use]
pub fn stateful_set(cluster: &Cluster, config: &ConfigMap) -> StatefulSet {
    let mut annotations = monitoring::scrape(ADMIN_PORT);
    annotations.extend(cluster.pod_annotations.clone());
    annotations.insert(CONFIG_HASH.into(), hash(&config.data));
    let storage = cluster.snapshot.as_ref().and_then(|snapshot| snapshot.storage.as_ref());
    let claims = storage.map(|(storage, _)| vec![pod::claim(SNAPSHOT, storage)]);
    StatefulSet {
        metadata: metadata(cluster, names::cluster(&cluster.name), Component::Member),
        spec: StatefulSetSpec {
            // Members need not start in order: each serves alone.
            pod_management_policy: Some("Parallel".into()),
            replicas: Some(cluster.members),
            revision_history_limit: Some(3),
            selector: labels::label_selector(&cluster.name, Component::Member),
            service_name: Some(names::members_service(&cluster.name)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    annotations: Some(annotations),
                    labels: Some(labels::labels(&cluster.name, Component::Member)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(cluster)),
            },
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: claims.as_ref().map(|_| {
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".into()),
                    when_scaled: Some("Delete".into()),
                }
            }),
            volume_claim_templates: claims,
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

fn pod_spec(cluster: &Cluster) -> PodSpec {
    let drain = i64::try_from(DRAIN_SECONDS).expect("a small constant");
    PodSpec {
        affinity: cluster.scheduling.affinity.clone(),
        containers: vec![container(cluster)],
        topology_spread_constraints: Some(spread(cluster)),
        volumes: Some(volumes(cluster)),
        ..pod::spec(cluster, LEAVE_SECONDS + drain + EXIT_SECONDS)
    }
}

fn container(cluster: &Cluster) -> Container {
    let memory = ("memory".to_string(), cluster.memory.clone());
    let requests = BTreeMap::from([memory.clone(), ("cpu".to_string(), cluster.cpu.clone())]);
    Container {
        name: "member".into(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["--config".into(), format!("{CONFIG_DIRECTORY}/{CONFIG_FILE}")]),
        env: Some(environment()),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: LEAVE_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        ports: Some(vec![
            pod::port("grpc", GRPC_PORT),
            pod::port("peer", PEER_PORT),
            pod::port("http", HTTP_PORT),
            pod::port("admin", ADMIN_PORT),
        ]),
        // The start-up probe asks for liveness, not readiness: a member that waits for an
        // unreachable etcd must not be restarted.
        startup_probe: Some(pod::probe("/healthz", "admin", 1, 60)),
        readiness_probe: Some(pod::probe("/readyz", "admin", 1, 2)),
        liveness_probe: Some(pod::probe("/healthz", "admin", 10, 3)),
        resources: Some(ResourceRequirements {
            limits: Some(BTreeMap::from([memory])),
            requests: Some(requests),
            ..ResourceRequirements::default()
        }),
        security_context: Some(pod::container_security()),
        // The last line of the log says why a member does not start; status and events repeat it.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts(cluster)),
        ..Container::default()
    }
}

/// What differs between pods. The zone is empty where Kubernetes does not copy it to pod labels.
fn environment() -> Vec<EnvVar> {
    let fields = [
        ("LARDER_MEMBER_NAME", "metadata.name"),
        ("LARDER_POD_UID", "metadata.uid"),
        ("LARDER_POD_IP", "status.podIP"),
        ("LARDER_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
    ];
    let from = |(name, path): (&str, &str)| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    fields.map(from).into()
}

/// The user's constraints, or a preference for different hosts and different zones.
fn spread(cluster: &Cluster) -> Vec<TopologySpreadConstraint> {
    if !cluster.scheduling.topology_spread_constraints.is_empty() {
        return cluster.scheduling.topology_spread_constraints.clone();
    }
    let over = |key: &str| TopologySpreadConstraint {
        label_selector: Some(labels::label_selector(&cluster.name, Component::Member)),
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    };
    vec![over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")]
}

fn volumes(cluster: &Cluster) -> Vec<Volume> {
    let secret = |volume: &str, name: String, optional: bool| Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            default_mode: Some(0o440),
            // Groups can be created after the members; without its TLS Secret a pod must not start.
            optional: Some(optional),
            secret_name: Some(name),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        Volume {
            name: CONFIG.into(),
            config_map: Some(ConfigMapVolumeSource {
                default_mode: Some(0o444),
                name: names::config_map(&cluster.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        secret(CREDENTIALS, names::credentials(&cluster.name), true),
    ];
    volumes.extend(etcd_tls(cluster).map(|name| secret(ETCD_TLS, name.into(), false)));
    if let Some(snapshot) = &cluster.snapshot
        && snapshot.storage.is_none()
    {
        // Two snapshots while one is written, and journals.
        let limit = (snapshot_bytes(cluster, snapshot) >> 20) * 2 + 512;
        let size_limit = Some(Quantity(format!("{limit}Mi")));
        volumes.push(Volume {
            name: SNAPSHOT.into(),
            empty_dir: Some(EmptyDirVolumeSource { size_limit, ..EmptyDirVolumeSource::default() }),
            ..Volume::default()
        });
    }
    volumes
}

fn mounts(cluster: &Cluster) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts =
        vec![mount(CONFIG, CONFIG_DIRECTORY), mount(CREDENTIALS, CREDENTIALS_DIRECTORY)];
    mounts.extend(etcd_tls(cluster).map(|_| mount(ETCD_TLS, ETCD_TLS_DIRECTORY)));
    mounts.extend(
        cluster
            .snapshot
            .as_ref()
            .map(|_| VolumeMount { read_only: None, ..mount(SNAPSHOT, SNAPSHOT_DIRECTORY) }),
    );
    mounts
}

fn etcd_tls(cluster: &Cluster) -> Option<&str> {
    match &cluster.etcd {
        Etcd::External(external) => external.tls_secret.as_deref(),
        Etcd::Managed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_map::config_map;
    use super::*;
    use crate::cluster::validate::example;

    fn build(spec: &str) -> StatefulSetSpec {
        let cluster = example(spec);
        stateful_set(&cluster, &config_map(&cluster)).spec
    }

    fn pod(spec: &str) -> PodSpec {
        build(spec).template.spec.expect("a pod spec")
    }

    #[test]
    fn pods_pass_the_restricted_standard() {
        pod::assert_restricted(&pod("{memory: 512Mi}"));
    }

    #[test]
    fn memory_is_request_and_limit_and_cpu_is_only_a_request() {
        let container = pod("{memory: 512Mi, cpu: 500m}").containers.remove(0);
        let resources = container.resources.expect("resources");
        let (limits, requests) = (resources.limits.unwrap(), resources.requests.unwrap());
        assert_eq!(limits["memory"].0, "512Mi");
        assert_eq!(requests["memory"].0, "512Mi");
        assert_eq!(requests["cpu"].0, "500m");
        assert!(!limits.contains_key("cpu"));
    }

    #[test]
    fn grace_covers_leaving_and_draining() {
        let pod = pod("{memory: 512Mi}");
        let drain = i64::try_from(DRAIN_SECONDS).unwrap();
        assert!(pod.termination_grace_period_seconds.unwrap() > LEAVE_SECONDS + drain);
    }

    #[test]
    fn only_a_change_of_the_template_or_the_file_restarts_members() {
        let template = |spec| build(spec).template;
        let base = template("{memory: 512Mi}");
        assert_eq!(template("{memory: 512Mi, members: 5}"), base);
        assert_eq!(template("{memory: 512Mi, podDisruption: {maxUnavailable: 2}}"), base);
        assert_ne!(template("{memory: 1Gi}"), base);
        assert_ne!(template("{memory: 512Mi, placement: {algorithm: Ring}}"), base);
    }

    #[test]
    fn the_users_scheduling_and_annotations_are_on_the_pod() {
        let spec = "{memory: 512Mi, imagePullSecrets: [{name: pull}], podAnnotations: {a: b}, \
             scheduling: {nodeSelector: {disk: fast}, tolerations: [{key: t, operator: Exists}], \
             priorityClassName: high, topologySpreadConstraints: [{maxSkew: 2, \
             topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]}}";
        let template = build(spec).template;
        assert_eq!(template.metadata.unwrap().annotations.unwrap()["a"], "b");
        let pod = template.spec.unwrap();
        assert_eq!(pod.node_selector.unwrap()["disk"], "fast");
        assert_eq!(pod.tolerations.unwrap().len(), 1);
        assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
        let spread = pod.topology_spread_constraints.unwrap();
        assert_eq!((spread.len(), spread[0].topology_key.as_str()), (1, "rack"));
    }

    #[test]
    fn a_user_cannot_replace_the_configuration_hash() {
        let spec = "{memory: 512Mi, podAnnotations: {larder.dev/config-hash: mine}}";
        let annotations = build(spec).template.metadata.unwrap().annotations.unwrap();
        assert_ne!(annotations[CONFIG_HASH], "mine");
    }

    #[test]
    fn members_spread_over_hosts_and_zones_by_preference() {
        let spread = pod("{memory: 512Mi}").topology_spread_constraints.unwrap();
        let keys: Vec<_> = spread.iter().map(|c| c.topology_key.as_str()).collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
        assert!(spread.iter().all(|c| c.when_unsatisfiable == "ScheduleAnyway"));
    }

    #[test]
    fn snapshots_are_in_the_pod_or_on_a_claim_or_nowhere() {
        let volume = |spec| {
            let spec: StatefulSetSpec = build(spec);
            let pod = spec.template.spec.unwrap();
            let volumes = pod.volumes.unwrap();
            let in_pod = volumes.into_iter().find(|volume| volume.name == SNAPSHOT);
            let mounts = pod.containers[0].volume_mounts.clone().unwrap();
            let mounted = mounts.iter().find(|mount| mount.mount_path == SNAPSHOT_DIRECTORY);
            let claims = spec.volume_claim_templates.unwrap_or_default();
            (in_pod, mounted.map(|mount| mount.read_only), claims.len())
        };
        let (in_pod, mounted, claims) = volume("{memory: 512Mi}");
        let limit = in_pod.unwrap().empty_dir.unwrap().size_limit.unwrap();
        // 80 percent of 488 MiB, twice, and 512 MiB.
        assert_eq!((limit.0.as_str(), mounted, claims), ("1292Mi", Some(None), 0));
        let claim = "{memory: 512Mi, snapshot: {storage: {size: 1Gi}}}";
        assert_eq!(volume(claim), (None, Some(None), 1));
        assert_eq!(volume("{memory: 512Mi, snapshot: {enabled: false}}"), (None, None, 0));
    }

    #[test]
    fn certificates_of_an_external_etcd_are_mounted() {
        let spec = "{memory: 64Mi, etcd: {external: {endpoints: ['https://a:2379'], \
             tlsSecretRef: {name: etcd-client}}}}";
        let pod = pod(spec);
        let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
        assert!(mounts.iter().any(|mount| mount.mount_path == ETCD_TLS_DIRECTORY));
        let secrets = pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret);
        let names: Vec<_> = secrets.filter_map(|secret| secret.secret_name).collect();
        assert_eq!(names, ["shop-credentials", "etcd-client"]);
    }
}
