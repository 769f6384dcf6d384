use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::super::build::etcd::{naming, stateful_set};
use super::super::super::build::example;
use super::super::super::observe::EtcdObserved;
use super::super::super::validate::Etcd;
use super::*;
use crate::etcd::{Access, Listing};

const NOW: i64 = 1_000_000;

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("valid")
}

fn sealed(data: &str) -> EtcdMember {
    let start = Start::Sealed { data: data.into() };
    EtcdMember { name: "shop-etcd-0".into(), incarnation: 2, start }
}

/// The StatefulSet that the builders make of a member, and the newest hash of its configuration.
fn set(member: &EtcdMember) -> (StatefulSet, Option<String>) {
    let cluster = example("{memory: 64Mi}");
    let Etcd::Managed(etcd) = cluster.etcd.clone() else { panic!("managed") };
    let set = stateful_set(&cluster, &etcd, member);
    let annotations = set.spec.template.metadata.clone().and_then(|m| m.annotations);
    let hash = annotations.and_then(|annotations| annotations.get(CONFIG_HASH).cloned());
    (set, hash)
}

/// The pod of that StatefulSet as the controller makes it, with `more` in it.
fn pod(set: &StatefulSet, more: &Value) -> Pod {
    let template = set.spec.template.metadata.clone().unwrap_or_default();
    let mut pod: Pod = of(more.clone());
    pod.metadata.name = Some("shop-etcd-0-0".into());
    pod.metadata.labels = template.labels;
    pod.metadata.annotations = template.annotations;
    pod
}

fn look(durable: bool, member: &EtcdMember, change: impl FnOnce(&mut Children)) -> Seen {
    let cluster = example("{memory: 64Mi}");
    let (set, newest) = set(member);
    let mut children = Children { stateful_sets: vec![set], ..Children::default() };
    change(&mut children);
    let observed = Observed {
        cluster: of(json!({"apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster",
            "metadata": {"name": "shop"}, "spec": {"memory": "64Mi"}})),
        now: Time(Timestamp::from_second(NOW).expect("in range")),
        children,
        etcd: EtcdObserved {
            answers: BTreeMap::new(),
            access: Access { endpoints: Vec::new(), tls: None },
        },
        registry: Ok(Listing::default()),
        groups: Vec::new(),
        unreadable_groups: BTreeSet::new(),
        secrets: BTreeMap::new(),
    };
    seen(&observed, naming(&cluster), 3, durable, &|_| newest.clone())
}

fn loss(durable: bool, more: &Value) -> Option<Loss> {
    let member = sealed("u1");
    let pod = pod(&set(&member).0, more);
    let seen = look(durable, &member, |children| children.pods = vec![pod]);
    seen.slots[0].lost
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
    let none = look(false, &sealed("u1"), |_| {});
    assert_eq!(none.slots[0].lost, Some(Loss::Data));
}

#[test]
fn data_on_a_volume_is_lost_with_the_volume() {
    let claim = |uid: &str| -> PersistentVolumeClaim {
        of(json!({"metadata": {"name": "data-shop-etcd-0-0", "uid": uid,
            "labels": {labels::ETCD_MEMBER: "shop-etcd-0"}}}))
    };
    let with = |uid: &str| {
        let seen = look(true, &sealed("v1"), |children| children.claims = vec![claim(uid)]);
        (seen.slots[0].lost, seen.remains)
    };
    assert_eq!(with("v1"), (None, BTreeSet::from([0])));
    assert_eq!(with("v2").0, Some(Loss::Data));
    assert_eq!(look(true, &sealed("v1"), |_| {}).slots[0].lost, Some(Loss::Data));
}

#[test]
fn a_sealed_member_that_found_nothing_says_so() {
    let message = "{\"error\":\"cannot fetch cluster info from peer urls\"}";
    let said = json!({"exitCode": 1, "message": message});
    let more = |ready| json!({"metadata": {"uid": "u1"}, "status": container(1, ready, &said)});
    assert_eq!(loss(false, &more(false)), Some(Loss::Data));
    assert_eq!(loss(false, &more(true)), None);
}

#[test]
fn crashes_count_and_too_little_memory_does_not() {
    let more = |restarts, reason: &str| {
        let ended = json!({"exitCode": 2, "reason": reason});
        json!({"metadata": {"uid": "u1"}, "status": container(restarts, false, &ended)})
    };
    assert_eq!(loss(false, &more(4, "Error")), Some(Loss::Crashes));
    assert_eq!(loss(false, &more(3, "Error")), None);
    assert_eq!(loss(false, &more(9, "OOMKilled")), None);
}

#[test]
fn a_pod_without_a_place_is_given_time() {
    let since = |seconds| {
        let more = json!({"metadata": {"uid": "u1"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "lastTransitionTime": at(seconds)},
        ]}});
        loss(false, &more)
    };
    assert_eq!(since(100), None);
    assert_eq!(since(130), Some(Loss::Place));
}

#[test]
fn sealing_makes_no_pod_outdated_and_a_new_configuration_does() {
    let joining = EtcdMember { start: Start::Join { initial_cluster: vec![] }, ..sealed("u1") };
    let made_by = |member: &EtcdMember, config: Option<&str>| {
        let mut pod = pod(&set(member).0, &json!({"metadata": {"uid": "u1"}}));
        if let Some(config) = config {
            pod.annotations_mut().insert(CONFIG_HASH.into(), config.into());
        }
        pod
    };
    let outdated = |member: &EtcdMember, pod: Pod| {
        look(false, member, |children| children.pods = vec![pod]).slots[0].outdated
    };
    assert!(!outdated(&sealed("u1"), made_by(&joining, None)));
    assert!(outdated(&sealed("u1"), made_by(&joining, Some("older"))));
    assert!(!outdated(&joining, made_by(&joining, None)));
    let seed = EtcdMember { start: Start::Seed, ..sealed("u1") };
    assert!(outdated(&joining, made_by(&seed, None)), "it would join by an old list");
}

#[test]
fn a_stripped_annotation_is_read_from_the_template() {
    let seen = look(false, &sealed("u1"), |children| {
        children.stateful_sets[0].metadata.annotations = None;
    });
    assert_eq!((seen.slots[0].incarnation, seen.last_incarnation), (2, 2));
    assert_eq!(seen.slots[0].start, Start::Sealed { data: "u1".into() });
}
