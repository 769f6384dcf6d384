use serde_json::{Value, json};

use super::*;
use crate::api::cluster::StorageSpec;
use crate::cluster::build::etcd::stateful_set;
use crate::cluster::observe::EtcdObserved;
use crate::cluster::validate::{Etcd, example};
use crate::etcd::{Access, Listing};

const NOW: i64 = 1_000_000;

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("valid")
}

fn sealed(data: &str) -> EtcdMember {
    let start = Start::Sealed { data: data.into() };
    EtcdMember { name: "shop-etcd-0".into(), incarnation: 2, start }
}

fn cluster() -> (Cluster, ManagedEtcd) {
    let cluster = example("{memory: 64Mi}");
    let Etcd::Managed(etcd) = cluster.etcd.clone() else { panic!("managed") };
    (cluster, etcd)
}

/// The StatefulSet that is built for a member, and the newest hash of its configuration.
fn set(member: &EtcdMember) -> (StatefulSet, Option<String>) {
    let (cluster, etcd) = cluster();
    let set = stateful_set(&cluster, &etcd, member);
    let annotations = set.spec.template.metadata.clone().and_then(|m| m.annotations);
    let hash = annotations.and_then(|annotations| annotations.get(CONFIG_HASH).cloned());
    (set, hash)
}

/// The pod of that StatefulSet as the controller creates it, with `more` in it.
fn pod(set: &StatefulSet, more: &Value) -> Pod {
    let template = set.spec.template.metadata.clone().unwrap_or_default();
    let mut pod: Pod = of(more.clone());
    pod.metadata.name = Some("shop-etcd-0-0".into());
    pod.metadata.labels = template.labels;
    pod.metadata.annotations = template.annotations;
    pod
}

fn state(durable: bool, member: &EtcdMember, change: impl FnOnce(&mut Children)) -> EtcdState {
    let (cluster, mut etcd) = cluster();
    let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".into());
    etcd.storage = durable.then_some(StorageSpec { size, storage_class_name: None });
    let (set, newest) = set(member);
    let mut children = Children { stateful_sets: vec![set], ..Children::default() };
    change(&mut children);
    let observed = Observed {
        cluster: of(json!({"apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster",
            "metadata": {"name": "shop"}, "spec": {"memory": "64Mi"}})),
        now: Time(Timestamp::from_second(NOW).expect("in range")),
        children,
        etcd: EtcdObserved {
            members: BTreeMap::new(),
            access: Access { endpoints: Vec::new(), tls: None },
        },
        registry: Ok(Listing::default()),
        groups: Vec::new(),
        unreadable_groups: BTreeSet::new(),
        secrets: BTreeMap::new(),
    };
    read(&observed, &cluster, &etcd, &|_| newest.clone())
}

fn loss(durable: bool, more: &Value) -> Option<Loss> {
    let member = sealed("u1");
    let pod = pod(&set(&member).0, more);
    state(durable, &member, |children| children.pods = vec![pod]).slots[0].lost
}

fn at(before: i64) -> Value {
    json!(Time(Timestamp::from_second(NOW - before).expect("in range")))
}

fn container(restarts: i32, ready: bool, ended: &Value) -> Value {
    json!({"containerStatuses": [{"name": "etcd", "image": "i", "imageID": "i", "ready": ready,
        "restartCount": restarts, "lastState": {"terminated": ended}}]})
}

#[test]
fn data_in_the_pod_is_lost_with_the_pod() {
    let same = json!({"metadata": {"uid": "u1"}});
    assert_eq!(loss(false, &same), None);
    assert_eq!(loss(false, &json!({"metadata": {"uid": "u2"}})), Some(Loss::Data));
    let failed = json!({"metadata": {"uid": "u1"}, "status": {"phase": "Failed"}});
    assert_eq!(loss(false, &failed), Some(Loss::Data));
    let leaving = json!({"metadata": {"uid": "u1", "deletionTimestamp": at(0)}});
    assert_eq!(loss(false, &leaving), Some(Loss::Data));
    let none = state(false, &sealed("u1"), |_| {});
    assert_eq!(none.slots[0].lost, Some(Loss::Data));
}

#[test]
fn data_on_a_volume_is_lost_with_the_volume() {
    let claim = |uid: &str| -> PersistentVolumeClaim {
        of(json!({"metadata": {"name": "data-shop-etcd-0-0", "uid": uid,
            "labels": {labels::ETCD_MEMBER: "shop-etcd-0"}}}))
    };
    let with = |uid: &str| {
        let state = state(true, &sealed("v1"), |children| children.claims = vec![claim(uid)]);
        (state.slots[0].lost, state.used_ordinals)
    };
    assert_eq!(with("v1"), (None, BTreeSet::from([0])));
    assert_eq!(with("v2").0, Some(Loss::Data));
    assert_eq!(state(true, &sealed("v1"), |_| {}).slots[0].lost, Some(Loss::Data));
}

#[test]
fn a_sealed_member_that_reports_no_data_has_lost_it() {
    let message = "{\"error\":\"cannot fetch cluster info from peer urls\"}";
    let ended = json!({"exitCode": 1, "message": message});
    let more = |ready| json!({"metadata": {"uid": "u1"}, "status": container(1, ready, &ended)});
    assert_eq!(loss(false, &more(false)), Some(Loss::Data));
    assert_eq!(loss(false, &more(true)), None);
}

#[test]
fn crashes_count_as_a_loss_and_running_out_of_memory_does_not() {
    let more = |restarts, reason: &str| {
        let ended = json!({"exitCode": 2, "reason": reason});
        json!({"metadata": {"uid": "u1"}, "status": container(restarts, false, &ended)})
    };
    assert_eq!(loss(false, &more(4, "Error")), Some(Loss::Crashes));
    assert_eq!(loss(false, &more(3, "Error")), None);
    assert_eq!(loss(false, &more(9, "OOMKilled")), None);
}

#[test]
fn a_pod_without_a_node_is_given_time() {
    let since = |seconds| {
        let more = json!({"metadata": {"uid": "u1"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "lastTransitionTime": at(seconds)},
        ]}});
        loss(false, &more)
    };
    assert_eq!(since(100), None);
    assert_eq!(since(130), Some(Loss::NoNode));
}

#[test]
fn sealing_makes_no_pod_outdated_and_a_new_configuration_does() {
    let joining = EtcdMember { start: Start::Join { initial_cluster: vec![] }, ..sealed("u1") };
    let created_from = |member: &EtcdMember, config: Option<&str>| {
        let mut pod = pod(&set(member).0, &json!({"metadata": {"uid": "u1"}}));
        if let Some(config) = config {
            pod.annotations_mut().insert(CONFIG_HASH.into(), config.into());
        }
        pod
    };
    let outdated = |member: &EtcdMember, pod: Pod| {
        state(false, member, |children| children.pods = vec![pod]).slots[0].outdated
    };
    assert!(!outdated(&sealed("u1"), created_from(&joining, None)));
    assert!(outdated(&sealed("u1"), created_from(&joining, Some("older"))));
    assert!(!outdated(&joining, created_from(&joining, None)));
    let seed = EtcdMember { start: Start::Seed, ..sealed("u1") };
    assert!(outdated(&joining, created_from(&seed, None)), "it would join with an old list");
}

#[test]
fn a_stripped_annotation_is_read_from_the_template() {
    let state = state(false, &sealed("u1"), |children| {
        children.stateful_sets[0].metadata.annotations = None;
    });
    assert_eq!((state.slots[0].incarnation, state.last_incarnation), (2, 2));
    assert_eq!(state.slots[0].start, Start::Sealed { data: "u1".into() });
}
