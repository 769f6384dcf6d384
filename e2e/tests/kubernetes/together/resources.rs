//! The two resources: edits and mistakes.

use std::time::{Duration, Instant};

use larder_e2e::poll;

use crate::grpc::{base64, value_of};
use crate::world::{sample, sample_group, together};

#[test]
fn a_group_edit_takes_effect_without_a_restart() {
    let world = together();
    let shop = world.shop();
    let before = shop.member_pods();
    let group = sample_group("edited");
    world.cluster.apply(&shop.namespace, &group).expect("accepted");
    let (row, _) = poll::until("a row", Duration::from_secs(30), || shop.get("edited", "Tom"));
    assert_eq!(value_of(&row), base64("630"));
    let edited = group
        .replace("SELECT score FROM students", "SELECT score + 1000 FROM students")
        .replace("policy: TinyLfu", "policy: S3Fifo");
    let begin = Instant::now();
    world.cluster.apply(&shop.namespace, &edited).expect("the edit is accepted");
    // A changed origin invalidates the old one's values, so a key that was just read shows the
    // edit.
    poll::until("the new query", Duration::from_secs(10), || {
        let answer = shop.get("edited", "Tom")?;
        let shown = value_of(&answer) == base64("1630") && answer.contains("S3Fifo");
        if shown { Ok(()) } else { Err(answer) }
    });
    let took = begin.elapsed().as_secs_f64();
    println!("CacheGroup edit to effect: {took:.1} s (with kubectl apply, polled with grpcurl)");
    assert_eq!(before, shop.member_pods(), "no pod was restarted or replaced");
}

#[test]
fn a_new_group_with_its_own_secret_restarts_nothing() {
    let world = together();
    let shop = world.shop();
    let before = shop.member_pods();
    let url = world.postgres().url();
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: ranks-db, labels: {{larder.dev/use-as-origin: \
         \"true\"}}}}\nstringData: {{dsn: \"{url}\"}}\n---\n\
         apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {{name: ranks}}\nspec:\n  \
         clusterRef: {{name: shop}}\n  origin:\n    sql:\n      \
         urlSecretRef: {{name: ranks-db, key: dsn}}\n      \
         query: \"SELECT count(*) FROM students WHERE score > $1::text::int\"\n"
    );
    world.cluster.apply(&shop.namespace, &yaml).expect("accepted");
    let (_, took) = poll::until("the new group answers", Duration::from_secs(30), || {
        let answer = shop.get("ranks", "998")?;
        if value_of(&answer).is_string() { Ok(()) } else { Err(answer) }
    });
    println!("new CacheGroup with a new Secret to its first value: {:.1} s", took.as_secs_f64());
    let objects = ["cachegroup/ranks", "secret/ranks-db"];
    world.cluster.must(&[&["delete", "--namespace", &shop.namespace], &objects[..]].concat());
    poll::until("the group is unknown again", Duration::from_secs(10), || {
        match shop.get("ranks", "998") {
            Err(error) if error.contains("FailedPrecondition") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(before, shop.member_pods(), "no pod was restarted or replaced");
}

#[test]
fn mistakes_are_reported_where_the_user_looks() {
    let world = together();
    let namespace = &world.namespace("mistakes");
    let typo = sample().replace("memory:", "memry:");
    let refused = world.cluster.apply(namespace, &typo).expect_err("a typo");
    assert!(refused.contains("memry"), "{refused}");
    let both = sample()
        .replace("    sql:", "    http: {urlTemplate: \"http://example.invalid/{key}\"}\n    sql:");
    let refused = world.cluster.apply(namespace, &both).expect_err("two origins");
    assert!(refused.contains("exactly one"), "{refused}");

    world.cluster.apply(namespace, &sample()).expect("accepted, but its Secret is missing");
    let (condition, _) = poll::until("a condition", Duration::from_secs(30), || {
        let condition = world.cluster.condition(namespace, "cachegroup/students", "Ready")?;
        if condition.status == "False" { Ok(condition) } else { Err(format!("{condition:?}")) }
    });
    assert!(condition.message.contains("students-db"), "{condition:?}");
    let resources = ["cachecluster,cachegroup", "--all", "--wait=false"];
    world.cluster.must(&[&["delete", "--namespace", namespace], &resources[..]].concat());
}
