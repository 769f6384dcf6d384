//! Owns the StatefulSet of one etcd member, and reading back which member a StatefulSet stands for.
//!
//! # Guarantees
//! - A change of the template restarts nothing (`OnDelete`): the plan deletes the pod when the
//!   quorum allows it. So how a member would start *next time* can be written at any moment.
//! - A sealed member whose data is gone does not start under its old identity, where it would vote
//!   on a log that it has forgotten: etcd refuses an empty data folder, because it is told to join
//!   a cluster and is given nobody to join.
//! - [`CONFIG_HASH`] on the pod says what it runs, without how it would start: sealing a member
//!   does not make its pod outdated.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSpec,
    PodTemplateSpec, ResourceRequirements, TopologySpreadConstraint, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::labels::{self, Component};
use super::super::{metadata, monitoring, names, pod};
use super::{CLIENT_PORT, METRICS_PORT, PEER_PORT, client_url, naming};
use crate::api::cluster::StorageSpec;
use crate::cluster::plan::{EtcdMember, Start};
use crate::cluster::validate::{Cluster, ManagedEtcd};

/// Annotation of the StatefulSet and of its pod template: the member that it stands for, as JSON.
pub const MEMBER_STATE: &str = "larder.dev/etcd-state";
/// Annotation of the pod template with a hash of everything in it but the way to start.
pub const CONFIG_HASH: &str = "larder.dev/config-hash";

/// Label with the member's name, on the StatefulSet, its pod and its volume.
const MEMBER: &str = labels::ETCD_MEMBER;
const DATA: &str = "data";
const DATA_DIRECTORY: &str = "/var/lib/etcd";
/// Seconds for a member to hand leadership over and to close its store.
const GRACE_SECONDS: i64 = 30;
/// A registry holds some kilobytes a member and group; the space between is history, which is
/// dropped every five minutes.
const QUOTA_BYTES: u64 = 256 << 20;

/// The StatefulSet of one member of `etcd`.
#[must_use]
pub fn stateful_set(cluster: &Cluster, etcd: &ManagedEtcd, member: &EtcdMember) -> StatefulSet {
    let labelled = |mut labels: BTreeMap<String, String>| {
        labels.insert(MEMBER.into(), member.name.clone());
        labels
    };
    let state = BTreeMap::from([(MEMBER_STATE.to_string(), write(member))]);
    let mut metadata = metadata(cluster, member.name.clone(), Component::Etcd);
    metadata.labels = metadata.labels.map(labelled);
    metadata.annotations = Some(state.clone());
    let mut pod_spec = pod_spec(cluster, etcd, member);
    let mut annotations = monitoring::scrape(METRICS_PORT);
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
            volume_claim_templates: etcd.storage.as_ref().map(|storage| vec![claim(storage)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

/// The member that a StatefulSet was made for; nothing for one that was not made here.
#[must_use]
pub fn read(stateful_set: &StatefulSet) -> Option<EtcdMember> {
    let state = stateful_set.metadata.annotations.as_ref()?.get(MEMBER_STATE)?;
    let state: State = serde_json::from_str(state).ok()?;
    Some(EtcdMember {
        name: stateful_set.metadata.name.clone()?,
        incarnation: state.incarnation,
        start: match state.start {
            StartState::Seed {} => Start::Seed,
            StartState::Join { initial_cluster } => Start::Join { initial_cluster },
            StartState::Sealed { data } => Start::Sealed { data },
        },
    })
}

/// The annotation's JSON, apart from the plan's own types: it is read by later releases.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    incarnation: u64,
    start: StartState,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum StartState {
    Seed {},
    Join { initial_cluster: Vec<(String, String)> },
    Sealed { data: String },
}

fn write(member: &EtcdMember) -> String {
    let start = match &member.start {
        Start::Seed => StartState::Seed {},
        Start::Join { initial_cluster } => {
            StartState::Join { initial_cluster: initial_cluster.clone() }
        }
        Start::Sealed { data } => StartState::Sealed { data: data.clone() },
    };
    serde_json::to_string(&State { incarnation: member.incarnation, start })
        .expect("a struct of text and numbers is always JSON")
}

fn hash(spec: &PodSpec) -> String {
    let text = serde_json::to_string(spec).expect("a Kubernetes object is always JSON");
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// All of the pod but the arguments that say how to start.
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
            pod::port("client", CLIENT_PORT),
            pod::port("peer", PEER_PORT),
            pod::port("metrics", METRICS_PORT),
        ]),
        // A member that cannot reach a quorum is alive: restarting it helps nobody.
        startup_probe: Some(pod::probe("/livez", "metrics", 1, 120)),
        readiness_probe: Some(pod::probe("/readyz", "metrics", 1, 3)),
        liveness_probe: Some(pod::probe("/livez", "metrics", 10, 6)),
        resources: Some(ResourceRequirements {
            limits: Some(BTreeMap::from([amount("memory", "512Mi")])),
            // The CPU keeps heartbeats on time beside a busy neighbour.
            requests: Some(BTreeMap::from([amount("memory", "96Mi"), amount("cpu", "100m")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(pod::container_security()),
        // A program that cannot start says why in its last line; status and events repeat it.
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
    let client_url = client_url(cluster, name);
    vec![
        format!("--name={name}"),
        format!("--data-dir={DATA_DIRECTORY}/member"),
        format!("--listen-peer-urls=http://0.0.0.0:{PEER_PORT}"),
        format!("--listen-client-urls=http://0.0.0.0:{CLIENT_PORT}"),
        format!("--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--advertise-client-urls={client_url}"),
        "--auto-compaction-mode=periodic".into(),
        "--auto-compaction-retention=5m".into(),
        format!("--quota-backend-bytes={QUOTA_BYTES}"),
        // Registrations are small and few: short logs keep a learner's first snapshot quick.
        "--snapshot-count=5000".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ]
}

/// How the member starts when it finds its data folder empty; with data it ignores all of this.
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
    // One order for one set, so that the same state gives the same object.
    members.sort();
    members.dedup();
    let members: Vec<_> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    vec![
        format!("--initial-cluster-state={state}"),
        format!("--initial-cluster-token={}-{}", cluster.uid, member.incarnation),
        format!("--initial-cluster={}", members.join(",")),
    ]
}

fn claim(storage: &StorageSpec) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(DATA.into()), ..ObjectMeta::default() },
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
mod tests {
    use super::super::super::example;
    use super::*;
    use crate::cluster::validate::Etcd;

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
    fn seed_begins_a_cluster_of_one_under_a_token_of_its_incarnation() {
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
    fn learner_names_everyone_once_and_in_one_order() {
        let set = build("{memory: 64Mi}", 1, join());
        assert_eq!(argument(&set, "--initial-cluster-state"), Some("existing"));
        let members = argument(&set, "--initial-cluster").expect("members");
        let names: Vec<_> = members.split(',').map(|m| m.split('=').next().unwrap()).collect();
        assert_eq!(names, ["shop-etcd-0", "shop-etcd-1", "shop-etcd-2"]);
    }

    #[test]
    fn sealed_member_has_nobody_to_join() {
        let set = build("{memory: 64Mi}", 1, sealed());
        assert_eq!(argument(&set, "--initial-cluster-state"), Some("existing"));
        let members = argument(&set, "--initial-cluster").expect("itself");
        assert!(members.starts_with("shop-etcd-1=") && !members.contains(','), "{members}");
    }

    #[test]
    fn member_is_read_back_from_its_stateful_set() {
        for start in [Start::Seed, join(), sealed()] {
            let set = build("{memory: 64Mi}", 1, start.clone());
            let member = read(&set).expect("made here");
            assert_eq!(member, EtcdMember { name: "shop-etcd-1".into(), incarnation: 2, start });
        }
        assert_eq!(read(&StatefulSet::default()), None);
    }

    #[test]
    fn sealing_leaves_the_configuration_as_it_was() {
        let hash = |spec, start| annotation(&build(spec, 1, start), CONFIG_HASH);
        assert_eq!(hash("{memory: 64Mi}", join()), hash("{memory: 1Gi}", sealed()));
        let other = "{memory: 64Mi, etcd: {managed: {image: other}}}";
        assert_ne!(hash("{memory: 64Mi}", sealed()), hash(other, sealed()));
    }

    #[test]
    fn template_changes_never_restart_a_member_by_themselves() {
        let set = build("{memory: 64Mi}", 0, sealed());
        let strategy = set.spec.update_strategy.unwrap();
        assert_eq!(strategy.type_.as_deref(), Some("OnDelete"));
    }

    #[test]
    fn data_lives_in_the_pod_unless_a_volume_is_asked_for() {
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
        assert_eq!(selector(0)[MEMBER], "shop-etcd-0");
    }
}
