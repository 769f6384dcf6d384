use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::super::build::example;
use super::super::observe::{Children, EtcdObserved};
use super::super::plan::{EtcdMember, Start, Step};
use super::*;
use crate::etcd::{self, Access, Entry, Listing};

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("valid")
}

fn pod(name: &str, uid: &str, ready: bool) -> Pod {
    let state = json!({"waiting": (!ready).then(|| json!({"reason": "ImagePullBackOff"}))});
    pod_of(Component::Member, name, uid, ready, &state)
}

/// An etcd member's pod, whose container runs whether or not the pod is ready.
fn etcd_pod(ordinal: u32, ready: bool) -> Pod {
    let member = etcd_member(ordinal).name;
    let name = format!("{member}-0");
    let mut pod = pod_of(Component::Etcd, &name, &name, ready, &json!({"running": {}}));
    pod.labels_mut().insert(labels::ETCD_MEMBER.into(), member);
    pod
}

fn pod_of(component: Component, name: &str, uid: &str, ready: bool, state: &Value) -> Pod {
    let status = if ready { "True" } else { "False" };
    of(json!({
        "metadata": {"name": name, "uid": uid, "labels": labels::labels("shop", component)},
        "status": {"conditions": [{"type": "Ready", "status": status}], "containerStatuses": [{
            "name": "c", "ready": ready, "restartCount": 0, "image": "i", "imageID": "i",
            "state": state,
        }]},
    }))
}

fn etcd_member(ordinal: u32) -> EtcdMember {
    let start = Start::Sealed { data: "d".into() };
    EtcdMember { name: format!("shop-etcd-{ordinal}"), incarnation: 1, start }
}

fn registration(name: &str, uid: &str, changed: i64) -> Entry {
    let value = json!({"Op": 0, "Addr": "a:1", "Metadata": {"uid": uid, "peerAddress": "a:2",
        "httpAddress": "a:3", "weight": 1, "version": "0"}});
    let key = Keys::new("prod", "shop").member(name);
    Entry { key, value: value.to_string().into_bytes(), changed }
}

fn set(generation: i64, observed: i64, replicas: i32, ready: i32, updated: i32) -> StatefulSet {
    of(json!({
        "metadata": {"name": "shop", "generation": generation},
        "spec": {"selector": {}, "serviceName": "x", "template": {}},
        "status": {"observedGeneration": observed, "replicas": replicas, "readyReplicas": ready,
            "updatedReplicas": updated},
    }))
}

/// What a settled cluster of two looks like; `change` breaks it.
fn judged(change: impl FnOnce(&mut Observed, &mut StatefulSet, &mut Plan)) -> CacheClusterStatus {
    let cluster = example("{memory: 512Mi, members: 2}");
    let mut observed = Observed {
        cluster: of(json!({"apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster",
            "metadata": {"name": "shop", "namespace": "prod", "generation": 3},
            "spec": {"memory": "512Mi", "members": 2}})),
        now: Time(Timestamp::from_second(100).expect("in range")),
        children: Children {
            pods: vec![
                pod("shop-0", "p0", true),
                pod("shop-1", "p1", true),
                etcd_pod(0, true),
                etcd_pod(1, true),
                etcd_pod(2, true),
            ],
            ..Children::default()
        },
        etcd: EtcdObserved {
            answers: BTreeMap::new(),
            access: Access { endpoints: Vec::new(), tls: None },
        },
        registry: Ok(Listing {
            cluster_id: 1,
            revision: 9,
            entries: vec![registration("shop-0", "p0", 5), registration("shop-1", "p1", 7)],
        }),
        groups: Vec::new(),
        unreadable_groups: std::collections::BTreeSet::new(),
        secrets: BTreeMap::new(),
    };
    let mut members = set(2, 2, 2, 2, 2);
    let etcd_members = [0, 1, 2].map(etcd_member).into();
    let mut plan = Plan { members: etcd_members, step: Step::Rest, health: Health::Healthy };
    change(&mut observed, &mut members, &mut plan);
    let applied = Applied { members, step: (Step::Rest, Ok(())), writes: 0 };
    status(&cluster, &observed, Some(&plan), &applied)
}

fn reason<'s>(status: &'s CacheClusterStatus, type_: &str) -> (&'s str, &'s str) {
    let condition = status.conditions.iter().find(|c| c.type_ == type_).expect("always present");
    assert_eq!(condition.observed_generation, Some(3));
    (condition.status.as_str(), condition.reason.as_str())
}

#[test]
fn a_settled_cluster_is_ready_and_says_so_for_its_generation() {
    let status = judged(|_, _, _| {});
    assert_eq!(reason(&status, READY), ("True", "Ready"));
    assert_eq!((status.ready.as_str(), status.ring_revision), ("2/2", Some(7)));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn whatever_is_not_as_wanted_is_named() {
    type Change = fn(&mut Observed, &mut StatefulSet, &mut Plan);
    let cases: [(Change, &str, &str); 12] = [
        (|_, set, _| set.metadata.generation = Some(3), MEMBERS_READY, "Updating"),
        (
            |o, _, _| o.children.pods[1] = pod("shop-1", "p1", false),
            MEMBERS_READY,
            "MembersNotReady",
        ),
        (|_, set, _| *set = self::set(2, 2, 2, 1, 2), MEMBERS_READY, "MembersNotReady"),
        (|_, set, _| *set = self::set(2, 2, 3, 3, 3), MEMBERS_READY, "ScalingIn"),
        (|_, set, _| *set = self::set(2, 2, 2, 2, 1), MEMBERS_READY, "RollingOut"),
        (
            |o, _, _| o.children.pods[0] = pod("shop-0", "successor", true),
            MEMBERS_READY,
            "NotRegistered",
        ),
        (|o, _, _| o.registry = Err(etcd::Error::Nobody), ETCD_READY, "Unreachable"),
        (|_, _, plan| plan.health = Health::NoQuorum { down: vec![] }, ETCD_READY, "QuorumLost"),
        (
            |_, _, plan| {
                plan.health = Health::Converging { healthy: 2, voters: 3, down: vec![] };
            },
            ETCD_READY,
            "MemberDown",
        ),
        (|o, _, _| o.children.pods[4] = etcd_pod(2, false), ETCD_READY, "PodsNotReady"),
        (
            |o, _, _| o.children.pods[4].metadata.deletion_timestamp = Some(o.now.clone()),
            ETCD_READY,
            "PodsNotReady",
        ),
        (|o, _, _| drop(o.children.pods.pop()), ETCD_READY, "PodsNotReady"),
    ];
    for (change, condition, expected) in cases {
        let status = judged(change);
        assert_eq!(reason(&status, condition), ("False", expected));
        assert_eq!(reason(&status, READY), ("False", expected));
    }
}

#[test]
fn the_message_says_which_pod_and_why() {
    let status = judged(|o, _, _| o.children.pods[1] = pod("shop-1", "p1", false));
    let message = &status.conditions[0].message;
    assert_eq!(
        message,
        "1 of 2 members are ready; shop-1: ImagePullBackOff (kubectl describe pod shop-1)"
    );
}

#[test]
fn an_etcd_pod_that_is_not_ready_is_named_although_every_etcd_member_answers() {
    let status = judged(|o, _, _| o.children.pods[4] = etcd_pod(2, false));
    assert_eq!(
        status.conditions[0].message,
        "2 of 3 etcd pods are ready; shop-etcd-2-0: is not ready yet \
         (kubectl describe pod shop-etcd-2-0)"
    );
    let status = judged(|o, _, _| drop(o.children.pods.pop()));
    assert_eq!(status.conditions[0].message, "2 of 3 etcd pods are ready");
}

#[test]
fn an_unreadable_registry_does_not_make_members_unready() {
    let status = judged(|o, _, _| o.registry = Err(etcd::Error::Nobody));
    assert_eq!(reason(&status, MEMBERS_READY), ("True", "AllReady"));
    assert_eq!(status.ring_revision, None);
}

#[test]
fn a_refused_spec_keeps_the_counts_and_speaks_of_its_generation() {
    let mut cluster: CacheCluster = of(json!({"apiVersion": "larder.dev/v1alpha1",
        "kind": "CacheCluster", "metadata": {"name": "shop", "generation": 3},
        "spec": {"memory": "1Ki"}}));
    cluster.status = Some(judged(|_, _, _| {}));
    let now = Time(Timestamp::from_second(200).expect("in range"));
    let status = refused(&cluster, "Invalid", "spec.memory: 1Ki is less than 64Mi", &now);
    assert_eq!(reason(&status, READY), ("False", "Invalid"));
    assert_eq!(status.ready_members, 2);
    assert_eq!(status.conditions[0].last_transition_time, now);
}
