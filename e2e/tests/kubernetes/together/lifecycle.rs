//! A CacheCluster of its own, from Ready to deleted.

use std::time::Duration;

use larder_e2e::poll;

use crate::world::{sample, together};

#[test]
fn a_settled_cluster_causes_no_writes_and_a_deleted_one_leaves_nothing() {
    let world = together();
    let shop = world.own_shop("lifecycle", &sample());
    let namespace = shop.namespace.as_str();
    shop.wait_members(3);
    shop.wait_ready();
    let kinds = "cachecluster,cachegroup,statefulset,service,configmap,secret,poddisruptionbudget";
    let versions = || -> Result<Vec<String>, String> {
        let list = world.cluster.json(&[kinds, "--namespace", namespace])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .map(|i| format!("{} {}", i["metadata"]["name"], i["metadata"]["resourceVersion"]))
            .collect())
    };
    let before = versions().expect("objects");
    assert!(before.len() > 7, "at least one object of each kind: {before:?}");
    poll::always("nothing is written", Duration::from_secs(15), || {
        let now = versions()?;
        if now == before { Ok(()) } else { Err(format!("{before:?}\n{now:?}")) }
    });

    let objects = ["cachegroup/students", "cachecluster/shop"];
    world.cluster.must(&[&["delete", "--namespace", namespace], &objects[..]].concat());
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
    println!("deleted, with nothing left after {:.1} s", took.as_secs_f64());
}
