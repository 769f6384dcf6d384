use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::observe::{Children, EtcdObserved};
use super::super::validate::example;
use super::*;
use crate::etcd::{Access, Entry, Listing};

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("valid")
}

fn group(name: &str, secret: &str) -> crate::api::CacheGroup {
    of(json!({"apiVersion": "larder.dev/v1alpha1", "kind": "CacheGroup",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"clusterRef": {"name": "shop"}, "origin": {"sql": {
            "urlSecretRef": {"name": secret, "key": "url"}, "query": "SELECT 1 WHERE $1"}}}}))
}

/// A Secret for origins, with values in base64, as in Kubernetes' JSON.
fn secret(name: &str, data: &Value) -> Secret {
    let labels = json!({"larder.dev/use-as-origin": "true"});
    of(json!({"metadata": {"name": name, "labels": labels}, "data": data}))
}

fn observed(change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = Observed {
        cluster: of(json!({"apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster",
            "metadata": {"name": "shop"}, "spec": {"memory": "512Mi"}})),
        now: Time(Timestamp::UNIX_EPOCH),
        children: Children::default(),
        etcd: EtcdObserved {
            members: BTreeMap::new(),
            access: Access { endpoints: Vec::new(), tls: None },
        },
        registry: Ok(Listing::default()),
        groups: Vec::new(),
        unreadable_groups: BTreeSet::new(),
        secrets: BTreeMap::new(),
    };
    change(&mut observed);
    observed
}

fn prepared(change: impl FnOnce(&mut Observed)) -> Prepared {
    prepare(&example("{memory: 512Mi}"), &observed(change), None)
}

fn files(prepared: &Prepared) -> Vec<(String, String)> {
    let data = prepared.credentials.clone().and_then(|secret| secret.data).unwrap_or_default();
    let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).expect("text");
    data.into_iter().map(|(name, bytes)| (name, text(bytes))).collect()
}

#[test]
fn each_groups_url_is_in_the_members_secret() {
    let prepared = prepared(|o| {
        o.groups = vec![group("students", "db"), group("teachers", "gone")];
        o.secrets = BTreeMap::from([
            ("db".into(), Some(secret("db", &json!({"url": "YQ=="})))),
            ("gone".into(), None),
        ]);
    });
    assert_eq!(files(&prepared), [("students.url".into(), "a".into())]);
}

#[test]
fn a_secret_that_nobody_meant_for_origins_reaches_no_member() {
    let given = |spec: &str, label: &str| {
        let mut db = secret("db", &json!({"url": "YQ=="}));
        db.metadata.labels = Some(BTreeMap::from([(label.into(), "true".into())]));
        let change = |o: &mut Observed| {
            o.children.secrets = vec![secret("shop-credentials", &json!({"students.url": "YQ=="}))];
            o.groups = vec![group("students", "db")];
            o.secrets = BTreeMap::from([("db".into(), Some(db))]);
        };
        files(&prepare(&example(spec), &observed(change), None)).len()
    };
    assert_eq!(given("{memory: 512Mi}", "app"), 0);
    assert_eq!(given("{memory: 512Mi}", "larder.dev/use-as-origin"), 1);
    assert_eq!(given("{memory: 512Mi, origins: {secrets: [db]}}", "app"), 1);
    assert_eq!(given("{memory: 512Mi, origins: {secrets: [other]}}", "app"), 0);
}

#[test]
fn a_credential_outlives_its_secret_and_is_removed_with_its_group() {
    let change = |o: &mut Observed| {
        let known = json!({"students.url": "YQ==", "broken.url": "Yg==", "old.url": "Yw=="});
        o.children.secrets = vec![secret("shop-credentials", &known)];
        o.groups = vec![group("students", "db")];
        o.secrets = BTreeMap::from([("db".into(), None)]);
        o.unreadable_groups = BTreeSet::from(["broken".into()]);
    };
    let names: Vec<_> = files(&prepared(change)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["broken.url", "students.url"]);
}

#[test]
fn only_running_members_with_older_credentials_are_stale() {
    let pod = |name: &str, phase: &str, hash: &str, component: &str| -> Pod {
        of(json!({
            "metadata": {"name": name, "annotations": {CREDENTIALS: hash},
                "labels": {"app.kubernetes.io/component": component}},
            "status": {"phase": phase},
        }))
    };
    let hash = prepared(|_| {}).credentials_hash;
    let prepared = prepared(|o| {
        o.children.pods = vec![
            pod("old", "Running", "x", "member"),
            pod("new", "Running", &hash, "member"),
            pod("starting", "Pending", "x", "member"),
            pod("etcd", "Running", "x", "etcd"),
        ];
    });
    assert_eq!(prepared.stale_pods, ["old"]);
}

#[test]
fn keys_without_a_group_are_deleted_and_members_keys_are_not() {
    let entry = |key: &str| Entry { key: key.into(), value: vec![], changed: 7 };
    let prepared = prepared(|o| {
        o.groups = vec![group("students", "db")];
        o.unreadable_groups = BTreeSet::from(["broken".into()]);
        o.registry = Ok(Listing {
            cluster_id: 1,
            revision: 9,
            entries: vec![
                entry("/larder/prod/shop/groups/students"),
                entry("/larder/prod/shop/groups/broken"),
                entry("/larder/prod/shop/groups/old"),
                entry("/larder/prod/shop/members/old"),
            ],
        });
    });
    let old = Change::DeleteUnchanged { key: "/larder/prod/shop/groups/old".into(), changed: 7 };
    assert_eq!(prepared.orphaned_keys, [old]);
}

#[test]
fn an_etcd_pod_without_its_stateful_set_is_a_stray() {
    let pod = |name: &str, member: &str| -> Pod {
        of(json!({"metadata": {"name": name, "labels": {labels::ETCD_MEMBER: member}}}))
    };
    let prepared = prepared(|o| {
        o.children.pods =
            vec![pod("shop-etcd-0-0", "shop-etcd-0"), pod("shop-etcd-1-0", "shop-etcd-1")];
        o.children.stateful_sets = vec![of(json!({
            "metadata": {"name": "shop-etcd-0"},
            "spec": {"selector": {}, "serviceName": "x", "template": {}},
        }))];
    });
    assert_eq!(prepared.stray_pods, ["shop-etcd-1-0"]);
}

#[test]
fn without_a_right_to_secrets_there_are_no_credentials_and_no_stale_pods() {
    let running = |o: &mut Observed| {
        o.children.pods = vec![of(json!({
            "metadata": {"name": "shop-0", "labels": {"app.kubernetes.io/component": "member"}},
            "status": {"phase": "Running"},
        }))];
    };
    let with = prepared(running);
    assert_eq!((with.credentials.is_some(), with.stale_pods.len()), (true, 1));
    let without = prepared(|o| {
        running(o);
        o.children.secrets_forbidden = true;
    });
    assert_eq!((without.credentials, without.stale_pods.len()), (None, 0));
}

#[test]
fn a_volume_without_a_member_and_without_an_owner_is_a_stray() {
    let claim = |member: &str,
                 owner: Option<&str>|
     -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
        let owners: Vec<Value> = owner
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": member, "uid": uid}))
            .into_iter()
            .collect();
        of(json!({"metadata": {"name": format!("data-{member}-0"), "ownerReferences": owners,
            "labels": {labels::ETCD_MEMBER: member}}}))
    };
    let prepared = prepared(|o| {
        o.children.stateful_sets = vec![of(json!({"metadata": {"name": "shop-etcd-0"},
            "spec": {"selector": {}, "serviceName": "x", "template": {}}}))];
        o.children.claims = vec![
            claim("shop-etcd-0", None),
            claim("shop-etcd-1", Some("u")),
            claim("shop-etcd-2", None),
        ];
    });
    assert_eq!(prepared.stray_claims, ["data-shop-etcd-2-0"]);
}
