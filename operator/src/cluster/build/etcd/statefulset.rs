//! Owns the StatefulSet of one etcd member.
//!
//! # Guarantees
//! - A change of the template restarts nothing (`OnDelete`): the plan deletes the pod when the
//!   quorum allows it. How a member will start *next time* can therefore be written at any moment.
//! - A sealed member whose data is gone does not start, so it cannot vote under its old identity on
//!   a log that it has lost: its arguments tell etcd to join an existing cluster and list no other
//!   member, and with an empty data folder etcd refuses that.
//! - [`CONFIG_HASH`] on the pod covers what it runs but not how it starts: sealing a member does
//!   not make its pod outdated.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::super::metadata::metadata;
use super::super::{monitoring, pod};
use crate::cluster::annotations::{CONFIG_HASH, hash};
use crate::cluster::labels::{self, Component};
use crate::cluster::names::{self, ETCD_CLIENT_PORT, ETCD_METRICS_PORT, ETCD_PEER_PORT};
use crate::cluster::plan::{EtcdMember, Naming, Start};
use crate::cluster::validate::{Cluster, ManagedEtcd};

const DATA: &str = "data";
const DATA_DIRECTORY: &str = "/var/lib/etcd";
/// Grace period in which a member transfers leadership and closes its store.
const GRACE_SECONDS: i64 = 30;
/// Limit of etcd's store. A registry holds some kilobytes for each member and group; the rest is
/// history, which is compacted every five minutes.
const QUOTA_BYTES: u64 = 256 << 20;

/// The StatefulSet of one member of `etcd`.
#[must_use]
pub fn stateful_set(cluster: &Cluster, etcd: &ManagedEtcd, member: &EtcdMember) -> StatefulSet {
    let labelled = |mut labels: BTreeMap<String, String>| {
        labels.insert(labels::ETCD_MEMBER.into(), member.name.clone());
        labels
    };
    let state = BTreeMap::from([member.annotation()]);
    let mut metadata = metadata(cluster, member.name.clone(), Component::Etcd);
    metadata.labels = metadata.labels.map(labelled);
    metadata.annotations = Some(state.clone());
    let mut pod_spec = pod_spec(cluster, etcd, member);
    let mut annotations = monitoring::scrape(ETCD_METRICS_PORT);
    annotations.extend(state);
    annotations.insert(CONFIG_HASH.into(), hash(&pod_spec));
    for container in &mut pod_spec.containers {
        container.args.get_or_insert_default().extend(start_arguments(cluster, member));
    }
    StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".into()),
                    when_scaled: Some("Delete".into()),
                },
            ),
            pod_management_policy: Some("Parallel".into()),
            replicas: Some(1),
            revision_history_limit: Some(1),
            selector: LabelSelector {
                match_labels: Some(labelled(labels::selector(&cluster.name, Component::Etcd))),
                ..LabelSelector::default()
            },
            service_name: Some(names::etcd_peers(&cluster.name)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    annotations: Some(annotations),
                    labels: Some(labelled(labels::labels(&cluster.name, Component::Etcd))),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec),
            },
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            volume_claim_templates: etcd
                .storage
                .as_ref()
                .map(|storage| vec![pod::claim(DATA, storage)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

/// The pod without the arguments that say how etcd starts.
fn pod_spec(cluster: &Cluster, etcd: &ManagedEtcd, member: &EtcdMember) -> PodSpec {
    let spread = |key: &str| TopologySpreadConstraint {
        label_selector: Some(labels::label_selector(&cluster.name, Component::Etcd)),
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    };
    let scratch = Volume {
        name: DATA.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("1Gi".into())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    PodSpec {
        containers: vec![container(cluster, etcd, member)],
        topology_spread_constraints: Some(vec![
            spread("kubernetes.io/hostname"),
            spread("topology.kubernetes.io/zone"),
        ]),
        volumes: etcd.storage.is_none().then(|| vec![scratch]),
        ..pod::spec(cluster, GRACE_SECONDS)
    }
}

fn container(cluster: &Cluster, etcd: &ManagedEtcd, member: &EtcdMember) -> Container {
    let amount = |name: &str, text: &str| (name.to_owned(), Quantity(text.into()));
    Container {
        name: "etcd".into(),
        image: Some(etcd.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec!["/etcd".into()]),
        args: Some(arguments(cluster, member)),
        ports: Some(vec![
            pod::port("client", ETCD_CLIENT_PORT),
            pod::port("peer", ETCD_PEER_PORT),
            pod::port("metrics", ETCD_METRICS_PORT),
        ]),
        // A member without a quorum is alive, and restarting it would not help.
        startup_probe: Some(pod::probe("/livez", "metrics", 1, 120)),
        readiness_probe: Some(pod::probe("/readyz", "metrics", 1, 3)),
        liveness_probe: Some(pod::probe("/livez", "metrics", 10, 6)),
        resources: Some(ResourceRequirements {
            limits: Some(BTreeMap::from([amount("memory", "512Mi")])),
            // The CPU request keeps heartbeats on time next to a busy neighbour.
            requests: Some(BTreeMap::from([amount("memory", "96Mi"), amount("cpu", "100m")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(pod::container_security()),
        // The last line of the log says why etcd does not start; status and events repeat it.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![VolumeMount {
            name: DATA.into(),
            mount_path: DATA_DIRECTORY.into(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn arguments(cluster: &Cluster, member: &EtcdMember) -> Vec<String> {
    let name = &member.name;
    let peer_url = naming(cluster).peer_url(name);
    let host = names::etcd_member_host(&cluster.namespace, &cluster.name, name);
    vec![
        format!("--name={name}"),
        format!("--data-dir={DATA_DIRECTORY}/member"),
        format!("--listen-peer-urls=http://0.0.0.0:{ETCD_PEER_PORT}"),
        format!("--listen-client-urls=http://0.0.0.0:{ETCD_CLIENT_PORT}"),
        format!("--listen-metrics-urls=http://0.0.0.0:{ETCD_METRICS_PORT}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--advertise-client-urls=http://{host}:{ETCD_CLIENT_PORT}"),
        "--auto-compaction-mode=periodic".into(),
        "--auto-compaction-retention=5m".into(),
        format!("--quota-backend-bytes={QUOTA_BYTES}"),
        // Registrations are few and small: a short log keeps a learner's first snapshot quick.
        "--snapshot-count=5000".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ]
}

fn naming(cluster: &Cluster) -> Naming {
    Naming::new(&cluster.namespace, &cluster.name)
}

/// How the member starts with an empty data folder. With data etcd ignores these arguments.
fn start_arguments(cluster: &Cluster, member: &EtcdMember) -> Vec<String> {
    let own = (member.name.clone(), naming(cluster).peer_url(&member.name));
    let (state, mut members) = match &member.start {
        Start::Seed => ("new", vec![own]),
        Start::Join { initial_cluster } => {
            let mut members = initial_cluster.clone();
            members.push(own);
            ("existing", members)
        }
        Start::Sealed { .. } => ("existing", vec![own]),
    };
    // Sorted, so that the same members always give the same object.
    members.sort();
    members.dedup();
    let members: Vec<_> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    vec![
        format!("--initial-cluster-state={state}"),
        format!("--initial-cluster-token={}-{}", cluster.uid, member.incarnation),
        format!("--initial-cluster={}", members.join(",")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::Etcd;
    use crate::cluster::validate::example;

    fn build(spec: &str, ordinal: u32, start: Start) -> StatefulSet {
        let cluster = example(spec);
        let Etcd::Managed(etcd) = cluster.etcd.clone() else { panic!("managed") };
        let name = naming(&cluster).name(ordinal);
        stateful_set(&cluster, &etcd, &EtcdMember { name, incarnation: 2, start })
    }

    fn sealed() -> Start {
        Start::Sealed { data: "d1".into() }
    }

    fn join() -> Start {
        let url = |name: &str| naming(&example("{memory: 64Mi}")).peer_url(name);
        let names = ["shop-etcd-2", "shop-etcd-1", "shop-etcd-0"];
        Start::Join { initial_cluster: names.map(|name| (name.into(), url(name))).into() }
    }

    fn pod(set: &StatefulSet) -> &PodSpec {
        set.spec.template.spec.as_ref().expect("a pod spec")
    }

    fn annotation(set: &StatefulSet, name: &str) -> String {
        let template = &set.spec.template;
        template.metadata.as_ref().unwrap().annotations.as_ref().unwrap()[name].clone()
    }

    fn argument<'s>(set: &'s StatefulSet, flag: &str) -> Option<&'s str> {
        let arguments = pod(set).containers[0].args.as_ref().expect("arguments");
        arguments.iter().find_map(|a| a.strip_prefix(flag)?.strip_prefix('='))
    }

    #[test]
    fn pods_pass_the_restricted_standard() {
        pod::assert_restricted(pod(&build("{memory: 64Mi}", 0, sealed())));
    }

    #[test]
    fn a_seed_starts_a_cluster_of_one_with_a_token_of_its_incarnation() {
        let set = build("{memory: 64Mi}", 0, Start::Seed);
        assert_eq!(set.metadata.name.as_deref(), Some("shop-etcd-0"));
        assert_eq!(argument(&set, "--initial-cluster-state"), Some("new"));
        assert_eq!(argument(&set, "--initial-cluster-token"), Some("u1-2"));
        assert_eq!(
            argument(&set, "--initial-cluster"),
            Some("shop-etcd-0=http://shop-etcd-0-0.shop-etcd-peers.prod.svc:2380")
        );
    }

    #[test]
    fn a_learner_lists_every_member_once_and_in_order() {
        let set = build("{memory: 64Mi}", 1, join());
        assert_eq!(argument(&set, "--initial-cluster-state"), Some("existing"));
        let members = argument(&set, "--initial-cluster").expect("members");
        let names: Vec<_> = members.split(',').map(|m| m.split('=').next().unwrap()).collect();
        assert_eq!(names, ["shop-etcd-0", "shop-etcd-1", "shop-etcd-2"]);
    }

    #[test]
    fn a_sealed_member_lists_no_other_member() {
        let set = build("{memory: 64Mi}", 1, sealed());
        assert_eq!(argument(&set, "--initial-cluster-state"), Some("existing"));
        let members = argument(&set, "--initial-cluster").expect("itself");
        assert!(members.starts_with("shop-etcd-1=") && !members.contains(','), "{members}");
    }

    #[test]
    fn the_member_is_read_back_from_the_stateful_set_and_from_its_template() {
        let set = build("{memory: 64Mi}", 1, join());
        let expected = EtcdMember { name: "shop-etcd-1".into(), incarnation: 2, start: join() };
        for metadata in [set.metadata.clone(), set.spec.template.metadata.clone().unwrap()] {
            let annotations = metadata.annotations.unwrap();
            let member = EtcdMember::from_annotations("shop-etcd-1", &annotations);
            assert_eq!(member.as_ref(), Some(&expected));
        }
    }

    #[test]
    fn sealing_does_not_change_the_configuration_hash() {
        let hash = |spec, start| annotation(&build(spec, 1, start), CONFIG_HASH);
        assert_eq!(hash("{memory: 64Mi}", join()), hash("{memory: 1Gi}", sealed()));
        let other = "{memory: 64Mi, etcd: {managed: {image: other}}}";
        assert_ne!(hash("{memory: 64Mi}", sealed()), hash(other, sealed()));
    }

    #[test]
    fn a_change_of_the_template_does_not_restart_a_member() {
        let set = build("{memory: 64Mi}", 0, sealed());
        let strategy = set.spec.update_strategy.unwrap();
        assert_eq!(strategy.type_.as_deref(), Some("OnDelete"));
    }

    #[test]
    fn data_is_in_the_pod_unless_storage_is_set() {
        let plain = build("{memory: 64Mi}", 0, sealed());
        assert!(plain.spec.volume_claim_templates.is_none());
        assert!(pod(&plain).volumes.as_ref().unwrap()[0].empty_dir.is_some());
        let spec = "{memory: 64Mi, etcd: {managed: {storage: {size: 1Gi, storageClassName: x}}}}";
        let stored = build(spec, 0, sealed());
        assert_eq!(pod(&stored).volumes, None);
        let spec = stored.spec;
        let claim = spec.volume_claim_templates.unwrap()[0].spec.clone().unwrap();
        assert_eq!(claim.storage_class_name.as_deref(), Some("x"));
        let retention = spec.persistent_volume_claim_retention_policy.unwrap();
        assert_eq!(retention.when_deleted.as_deref(), Some("Delete"));
    }

    #[test]
    fn each_member_selects_only_its_own_pod() {
        let selector = |ordinal| {
            let set = build("{memory: 64Mi}", ordinal, sealed());
            set.spec.selector.match_labels.unwrap()
        };
        assert_ne!(selector(0), selector(1));
        assert_eq!(selector(0)[labels::ETCD_MEMBER], "shop-etcd-0");
    }
}
