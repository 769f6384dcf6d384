//! Every CEL rule of the two definitions, tested failing and passing, without a server.

use std::collections::BTreeSet;

use kube::core::cel::{Validator, apply_defaults};
use larder_operator::crd;
use serde_json::{Value, json};

/// Two changes to a valid object: one that breaks a rule and one that almost does.
struct Case {
    kind: &'static str,
    /// Message of the rule that `bad` breaks.
    message: &'static str,
    bad: fn(&mut Value),
    good: fn(&mut Value),
    /// The change that makes the old object, for rules that compare with it.
    old: Option<fn(&mut Value)>,
}

fn base(kind: &str) -> Value {
    let spec = match kind {
        "CacheCluster" => json!({"memory": "512Mi"}),
        _ => json!({
            "clusterRef": {"name": "shop"},
            "origin": {"sql": {
                "urlSecretRef": {"name": "db", "key": "url"},
                "query": "SELECT score FROM students WHERE name = $1",
            }},
        }),
    };
    json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "shop"}, "spec": spec,
    })
}

fn messages(kind: &str, change: fn(&mut Value), old: Option<fn(&mut Value)>) -> Vec<String> {
    let schema = crd::schema(kind).expect("known");
    let changed = |change: fn(&mut Value)| {
        let mut object = base(kind);
        change(&mut object);
        apply_defaults(&schema, &object)
    };
    let old = old.map(changed);
    match Validator::new().validate(&schema, &changed(change), old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.message).collect(),
    }
}

const CLUSTER: &str = "CacheCluster";
const GROUP: &str = "CacheGroup";

fn external(endpoints: &Value) -> Value {
    json!({"external": {"endpoints": endpoints}})
}

fn query(object: &mut Value, text: &str) {
    object["spec"]["origin"]["sql"]["query"] = text.into();
}

fn url(object: &mut Value, text: &str) {
    object["spec"]["origin"] = json!({"http": {"urlTemplate": text}});
}

fn http_with_tags(header: &str) -> Value {
    json!({"http": {"urlTemplate": "http://a/{key}", "tagsHeader": header}})
}

fn sql_batch(object: &mut Value, query: &str, max_keys: i32) {
    object["spec"]["origin"]["sql"]["batch"] =
        json!({"query": query, "keyColumn": "name", "maxKeys": max_keys});
}

fn http_batch(url: &str, max_keys: i32) -> Value {
    let batch = json!({"url": url, "maxKeys": max_keys});
    json!({"http": {"urlTemplate": "http://a/{key}", "batch": batch}})
}

fn limits(object: &mut Value, limits: &Value) {
    object["spec"]["originLimits"] = limits.clone();
}

fn cluster_cases() -> Vec<Case> {
    let case = |message, bad, good, old| Case { kind: CLUSTER, message, bad, good, old };
    vec![
        case(
            "the name must have at most 40 characters, because the names of child objects contain \
             it",
            |o| o["metadata"]["name"] = "c".repeat(41).into(),
            |o| o["metadata"]["name"] = "c".repeat(40).into(),
            None,
        ),
        case(
            "the name must start with a letter and contain only lower-case letters, digits and \
             hyphens, because it is the name of a Service",
            |o| o["metadata"]["name"] = "1shop".into(),
            |o| o["metadata"]["name"] = "shop-1".into(),
            None,
        ),
        case(
            "memory must be at least 64Mi",
            |o| o["spec"]["memory"] = "63Mi".into(),
            |o| o["spec"]["memory"] = "64Mi".into(),
            None,
        ),
        case(
            "memory must be at most 1Ti",
            |o| o["spec"]["memory"] = "1025Gi".into(),
            |o| o["spec"]["memory"] = 68_000_000.into(),
            None,
        ),
        case(
            "exactly one of managed and external must be set",
            |o| o["spec"]["etcd"] = json!({}),
            |o| o["spec"]["etcd"] = external(&json!(["http://etcd:2379"])),
            None,
        ),
        case(
            "etcd cannot be changed between managed and external; create a new CacheCluster",
            |o| o["spec"]["etcd"] = external(&json!(["http://etcd:2379"])),
            |o| o["spec"]["etcd"] = json!({"managed": {"members": 1}}),
            Some(|_| {}),
        ),
        case(
            "storage cannot be changed; create a new CacheCluster",
            |o| o["spec"]["etcd"] = json!({"managed": {"storage": {"size": "2Gi"}}}),
            |o| o["spec"]["etcd"] = json!({"managed": {"members": 1, "storage": {"size": "1Gi"}}}),
            Some(|o| o["spec"]["etcd"] = json!({"managed": {"storage": {"size": "1Gi"}}})),
        ),
        case(
            "snapshot.storage cannot be changed, because the volumes of a StatefulSet cannot; \
             create a new CacheCluster",
            |o| o["spec"]["snapshot"] = json!({"enabled": true}),
            |o| o["spec"]["snapshot"] = json!({"enabled": true, "storage": {"size": "1Gi"}}),
            Some(|o| {
                o["spec"]["snapshot"] = json!({"enabled": true, "storage": {"size": "1Gi"}});
            }),
        ),
        case(
            "snapshot.storage can only be set while snapshot is enabled",
            |o| o["spec"]["snapshot"] = json!({"enabled": false, "storage": {"size": "1Gi"}}),
            |o| o["spec"]["snapshot"] = json!({"enabled": true, "storage": {"size": "1Gi"}}),
            None,
        ),
        case(
            "etcd must have 1 or 3 members",
            |o| o["spec"]["etcd"] = json!({"managed": {"members": 2}}),
            |o| o["spec"]["etcd"] = json!({"managed": {"members": 1}}),
            None,
        ),
        case(
            "size must be at least 256Mi",
            |o| o["spec"]["etcd"] = json!({"managed": {"storage": {"size": "255Mi"}}}),
            |o| o["spec"]["etcd"] = json!({"managed": {"storage": {"size": "0.25Gi"}}}),
            None,
        ),
        case(
            "https endpoints need tlsSecretRef; http endpoints must not have it",
            |o| o["spec"]["etcd"] = external(&json!(["http://a:2379", "https://b:2379"])),
            |o| {
                o["spec"]["etcd"] = external(&json!(["https://a:2379", "https://b:2379"]));
                o["spec"]["etcd"]["external"]["tlsSecretRef"] = json!({"name": "tls"});
            },
            None,
        ),
        case(
            "ring can only be set with the algorithm Ring",
            |o| o["spec"]["placement"] = json!({"ring": {"virtualNodes": 100}}),
            |o| o["spec"]["placement"] = json!({"algorithm": "Ring", "ring": {}}),
            None,
        ),
    ]
}

fn group_cases() -> Vec<Case> {
    let case = |message, bad, good, old| Case { kind: GROUP, message, bad, good, old };
    vec![
        case(
            "the name must have at most 63 characters, because every request contains it",
            |o| o["metadata"]["name"] = "g".repeat(64).into(),
            |o| o["metadata"]["name"] = "g".repeat(63).into(),
            None,
        ),
        case(
            "guaranteedMemory must be at least 1Mi; leave it out for no guarantee",
            |o| o["spec"]["guaranteedMemory"] = "0".into(),
            |o| o["spec"]["guaranteedMemory"] = "1Mi".into(),
            None,
        ),
        case(
            "guaranteedMemory must be at most 1Ti",
            |o| o["spec"]["guaranteedMemory"] = "1025Gi".into(),
            |o| o["spec"]["guaranteedMemory"] = 64_000_000.into(),
            None,
        ),
        case(
            "clusterRef cannot be changed; create a new CacheGroup",
            |o| o["spec"]["clusterRef"]["name"] = "other".into(),
            |o| o["spec"]["policy"] = "Lru".into(),
            Some(|_| {}),
        ),
        case(
            "exactly one of sql and http must be set",
            |o| o["spec"]["origin"]["http"] = json!({"urlTemplate": "http://a/{key}"}),
            |o| url(o, "https://a/{key}"),
            None,
        ),
        case(
            "query must have one placeholder for the key: $1 (PostgreSQL, SQLite) or one ? (MySQL, \
             SQLite)",
            |o| query(o, "SELECT 1 WHERE a = ? OR b = ?"),
            |o| query(o, "SELECT 1 WHERE a = ?"),
            None,
        ),
        case(
            "query must have no placeholder but $1: the key is the only parameter",
            |o| query(o, "SELECT 1 WHERE a = $1 AND b = $2"),
            |o| query(o, "SELECT 1 WHERE a = $1 OR b = $1"),
            None,
        ),
        case(
            "urlTemplate must contain {key}",
            |o| url(o, "http://a/b"),
            |o| url(o, "http://a/b?c={key}"),
            None,
        ),
        case(
            "urlTemplate must not contain a user or a password",
            |o| url(o, "http://me:secret@a/{key}"),
            |o| url(o, "http://a/@{key}"),
            None,
        ),
        case(
            "tagsHeader must be the name of a header: letters, digits and !#$%&*+-.^_`|~",
            |o| o["spec"]["origin"] = http_with_tags("Cache Tag"),
            |o| o["spec"]["origin"] = http_with_tags("Cache-Tag"),
            None,
        ),
        case(
            "batch.query must have one placeholder for the keys: = ANY($1) (PostgreSQL), IN ($1) \
             (MySQL, SQLite) or IN (?)",
            |o| sql_batch(o, "SELECT score, name FROM students", 100),
            |o| sql_batch(o, "SELECT score, name FROM students WHERE name IN (?)", 100),
            None,
        ),
        case(
            "batch.query must have no placeholder but $1: the keys are the only parameter",
            |o| sql_batch(o, "SELECT v, k FROM t WHERE k = ANY($1) AND a = $2", 100),
            |o| sql_batch(o, "SELECT v, k FROM t WHERE k = ANY($1)", 100),
            None,
        ),
        case(
            "maxKeys must be at least 1; leave out batch to load keys one by one",
            |o| sql_batch(o, "SELECT v, k FROM t WHERE k = ANY($1)", 0),
            |o| o["spec"]["origin"] = http_batch("http://a/many", 1),
            None,
        ),
        case(
            "batch.url must not contain {key}: the keys are in the body",
            |o| o["spec"]["origin"] = http_batch("http://a/{key}", 1),
            |o| o["spec"]["origin"] = http_batch("http://a/many", 1),
            None,
        ),
        case(
            "batch.url must not contain a user or a password",
            |o| o["spec"]["origin"] = http_batch("http://me:secret@a/many", 1),
            |o| o["spec"]["origin"] = http_batch("http://a/@many", 1),
            None,
        ),
        case(
            "loadsPerSecond must be at least 1; leave it out for no limit",
            |o| limits(o, &json!({"loadsPerSecond": 0})),
            |o| limits(o, &json!({"loadsPerSecond": 1})),
            None,
        ),
        case(
            "burst must be at least 1; leave it out for the loads of one second",
            |o| limits(o, &json!({"loadsPerSecond": 10, "burst": 0})),
            |o| limits(o, &json!({"loadsPerSecond": 10, "burst": 1})),
            None,
        ),
        case(
            "burst can only be set with loadsPerSecond",
            |o| limits(o, &json!({"burst": 5})),
            |o| limits(o, &json!({"loadsPerSecond": 1, "burst": 5})),
            None,
        ),
    ]
}

fn cases() -> Vec<Case> {
    cluster_cases().into_iter().chain(group_cases()).collect()
}

#[test]
fn each_rule_refuses_the_bad_change_and_allows_the_good_one() {
    for case in cases() {
        let refused = messages(case.kind, case.bad, case.old);
        assert_eq!(refused, [case.message], "{}", case.kind);
        let passed = messages(case.kind, case.good, case.old);
        assert_eq!(passed, [""; 0], "{}", case.message);
    }
}

/// Collects the messages of all rules of a schema.
fn rules(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in own.into_iter().flatten() {
                found.insert(rule["message"].as_str().expect("a message").into());
            }
            fields.values().for_each(|inner| rules(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| rules(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_rule_has_a_case() {
    let mut found = BTreeSet::new();
    for kind in [CLUSTER, GROUP] {
        rules(&crd::schema(kind).expect("known"), &mut found);
    }
    let tested: BTreeSet<String> = cases().iter().map(|case| case.message.into()).collect();
    assert_eq!(found, tested);
}

#[test]
fn unchanged_objects_pass_every_rule() {
    for kind in [CLUSTER, GROUP] {
        assert_eq!(messages(kind, |_| {}, None), [""; 0]);
        assert_eq!(messages(kind, |_| {}, Some(|_| {})), [""; 0]);
    }
}
