//! The two resources: edits, mistakes, rest and deletion.

use std::time::Duration;

use larder_e2e::poll;

use crate::grpc::{base64, value_of};
use crate::world::{SHOP, offer_database, sample, world};

#[test]
fn a_group_edit_takes_effect_without_a_restart() {
    let world = world();
    let before = world.member_pods();
    world.get("students", "Tom").expect("a row");
    let edited = sample()
        .replace("SELECT score FROM students", "SELECT score + 1000 FROM students")
        .replace("policy: TinyLfu", "policy: S3Fifo");
    world.cluster.apply(SHOP, &edited).expect("the edit is accepted");
    // A changed origin drops what the old one said, so a key that was just read shows the edit.
    let (_, took) = poll::until("the new query", Duration::from_secs(10), || {
        let answer = world.get("students", "Tom")?;
        let shown = value_of(&answer) == base64("1630") && answer.contains("S3Fifo");
        if shown { Ok(()) } else { Err(answer) }
    });
    println!("CacheGroup edit to effect: {:.1} s (polled with grpcurl)", took.as_secs_f64());
    world.cluster.apply(SHOP, &sample()).expect("the edit is reverted");
    let after = world.member_pods();
    assert_eq!(before, after, "no pod was restarted or replaced");
}

#[test]
fn a_new_group_with_its_own_secret_restarts_nothing() {
    let world = world();
    let before = world.member_pods();
    let url = world.postgres.url();
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: ranks-db}}\nstringData: {{dsn: \"{url}\"}}\n---\n\
         apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {{name: ranks}}\nspec:\n  \
         clusterRef: {{name: shop}}\n  origin:\n    sql:\n      \
         urlSecretRef: {{name: ranks-db, key: dsn}}\n      \
         query: \"SELECT count(*) FROM students WHERE score > $1::text::int\"\n"
    );
    world.cluster.apply(SHOP, &yaml).expect("accepted");
    let (_, took) = poll::until("the new group answers", Duration::from_secs(30), || {
        let answer = world.get("ranks", "998")?;
        if value_of(&answer).is_string() { Ok(()) } else { Err(answer) }
    });
    println!("new CacheGroup with a new Secret to its first value: {:.1} s", took.as_secs_f64());
    world.cluster.must(&["delete", "cachegroup/ranks", "secret/ranks-db", "--namespace", SHOP]);
    poll::until("the group is unknown again", Duration::from_secs(10), || {
        match world.get("ranks", "998") {
            Err(error) if error.contains("FailedPrecondition") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(before, world.member_pods(), "no pod was restarted or replaced");
}

#[test]
fn mistakes_are_told_where_the_user_looks() {
    let world = world();
    let typo = sample().replace("memory:", "memry:");
    let refused = world.cluster.apply("mistakes", &typo).expect_err("a typo");
    assert!(refused.contains("memry"), "{refused}");
    let both = sample()
        .replace("    sql:", "    http: {urlTemplate: \"http://example.invalid/{key}\"}\n    sql:");
    let refused = world.cluster.apply("mistakes", &both).expect_err("two origins");
    assert!(refused.contains("exactly one"), "{refused}");

    world.cluster.apply("mistakes", &sample()).expect("accepted, but its Secret is missing");
    let (condition, _) = poll::until("a condition", Duration::from_secs(30), || {
        let condition = world.cluster.condition("mistakes", "cachegroup/students", "Ready")?;
        if condition.status == "False" { Ok(condition) } else { Err(format!("{condition:?}")) }
    });
    assert!(condition.message.contains("students-db"), "{condition:?}");
    world.cluster.must(&["delete", "cachecluster,cachegroup", "--all", "--namespace", "mistakes"]);
}

#[test]
fn a_settled_cluster_causes_no_writes() {
    let world = world();
    world.wait_members(3);
    world.cluster.wait_true(SHOP, "cachecluster/shop", "Ready", Duration::from_secs(60));
    let kinds = "cachecluster,cachegroup,statefulset,service,configmap,secret,poddisruptionbudget";
    let versions = || -> Result<Vec<String>, String> {
        let list = world.cluster.json(&[kinds, "--namespace", SHOP])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .map(|i| format!("{} {}", i["metadata"]["name"], i["metadata"]["resourceVersion"]))
            .collect())
    };
    let before = versions().expect("objects");
    poll::always("nothing is written", Duration::from_secs(15), || {
        let now = versions()?;
        if now == before { Ok(()) } else { Err(format!("{before:?}\n{now:?}")) }
    });
}

#[test]
fn deleting_a_cluster_leaves_nothing() {
    let world = world();
    let namespace = "short-lived";
    offer_database(&world.cluster, namespace, &world.postgres.url());
    world.cluster.apply(namespace, &sample()).expect("accepted");
    let limit = Duration::from_secs(120);
    world.cluster.wait_true(namespace, "cachecluster/shop", "Ready", limit);
    world.cluster.must(&["delete", "cachegroup/students", "cachecluster/shop", "-n", namespace]);
    world.cluster.must(&["delete", "secret/students-db", "--namespace", namespace]);
    let kinds = "statefulset,pod,service,configmap,secret,poddisruptionbudget,\
                 persistentvolumeclaim,endpointslice,controllerrevision";
    let (_, took) = poll::until("nothing is left", Duration::from_secs(60), || {
        let list = world.cluster.json(&[kinds, "--namespace", namespace])?;
        let left: Vec<String> = list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| format!("{}/{}", item["kind"], item["metadata"]["name"]))
            .filter(|name| !name.contains("kube-root-ca.crt"))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
    println!("deleted without a rest after {:.1} s", took.as_secs_f64());
}
