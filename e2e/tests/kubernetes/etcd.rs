//! The managed etcd of a [`Shop`]: its pods, its volumes and what the registry contains.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_e2e::cluster::Pod;
use larder_e2e::{poll, process};
use serde_json::Value;

use crate::shop::Shop;
use crate::world::World;

/// The pods of etcd's members.
pub(crate) const PODS: &str = "larder.dev/cluster=shop,app.kubernetes.io/component=etcd";
/// The promise: the registry is complete again within this time after a loss.
const COMPLETE_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for Kubernetes to start or delete pods and volumes.
const OBJECTS_LIMIT: Duration = Duration::from_secs(60);

/// The managed etcd of one CacheCluster.
#[derive(Debug)]
pub(crate) struct Etcd<'a> {
    world: &'a World,
    shop: &'a Shop,
}

/// A pod of etcd and its volume, before both are deleted.
#[derive(Debug)]
struct Victim {
    pod: Pod,
    claim: String,
    claim_uid: String,
    volume: String,
}

impl<'a> Etcd<'a> {
    pub(crate) fn of(world: &'a World, shop: &'a Shop) -> Self {
        Self { world, shop }
    }

    /// Waits until `count` pods are ready.
    fn wait_pods(&self, count: usize) -> Vec<Pod> {
        poll::until("ready etcd pods", OBJECTS_LIMIT, || {
            let pods = self.world.cluster.pods(&self.shop.namespace, PODS)?;
            if pods.len() == count { Ok(pods) } else { Err(format!("{} are ready", pods.len())) }
        })
        .0
    }

    /// Deletes `count` of three members' pods with their volumes, and returns once the pods, the
    /// claims and the volumes (the provisioner deletes the data first) are gone.
    pub(crate) fn lose_volumes(&self, count: usize) {
        let pods = self.wait_pods(3);
        let victims: Vec<Victim> =
            pods.into_iter().take(count).map(|pod| self.victim(pod)).collect();
        assert_eq!(victims.len(), count);
        let names = |name: fn(&Victim) -> &str| victims.iter().map(name).collect::<Vec<_>>();
        let delete = |kind: &str, flags: &[&str], names: &[&str]| {
            let place = ["--namespace", &self.shop.namespace];
            self.world.cluster.must(&[&["delete", kind], flags, &place, names].concat());
        };
        // Claims first: a claim in deletion is not given to the pod's successor.
        delete("persistentvolumeclaim", &["--wait=false"], &names(|victim| &victim.claim));
        delete("pod", &["--grace-period=0", "--force"], &names(|victim| &victim.pod.name));
        poll::until("pods and volumes are gone", OBJECTS_LIMIT, || {
            victims.iter().try_for_each(|victim| self.is_gone(victim))
        });
    }

    fn victim(&self, pod: Pod) -> Victim {
        let claim = format!("data-{}", pod.name);
        let object = self
            .world
            .cluster
            .json(&["persistentvolumeclaim", &claim, "--namespace", &self.shop.namespace])
            .expect("each pod has a claim");
        let text = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_str).expect("a bound claim").to_owned()
        };
        let (claim_uid, volume) = (text("/metadata/uid"), text("/spec/volumeName"));
        Victim { pod, claim, claim_uid, volume }
    }

    /// A successor has the same name and another uid.
    fn is_gone(&self, victim: &Victim) -> Result<(), String> {
        let uid = |kind: &str, name: &str| {
            let query = ["get", kind, name, "--namespace", &self.shop.namespace];
            let flags = ["--ignore-not-found", "--output=jsonpath={.metadata.uid}"];
            self.world.cluster.kubectl(&[query.as_slice(), &flags].concat())
        };
        let Victim { pod, claim, claim_uid, volume } = victim;
        if uid("pod", &pod.name)? == pod.uid {
            return Err(format!("the pod {} exists", pod.name));
        }
        if uid("persistentvolumeclaim", claim)? == *claim_uid {
            return Err(format!("the claim {claim} exists"));
        }
        match uid("persistentvolume", volume)?.as_str() {
            "" => Ok(()),
            _ => Err(format!("the volume {volume} exists")),
        }
    }

    /// Waits until etcd, asked through a quorum, contains every member and the group. Returns the
    /// id of the etcd cluster.
    pub(crate) fn wait_complete(&self) -> u64 {
        self.wait_complete_after(Instant::now(), None).0
    }

    /// As [`Self::wait_complete`], in an etcd cluster other than `lost`. Also returns the time
    /// since `begin`.
    pub(crate) fn wait_complete_after(&self, begin: Instant, lost: Option<u64>) -> (u64, Duration) {
        let left = COMPLETE_LIMIT.saturating_sub(begin.elapsed());
        let (id, _) = poll::until("a complete registry", left, || {
            let prefix = format!("/larder/{}/shop/", self.shop.namespace);
            let answer = self.etcdctl(&["get", "--prefix", "--keys-only", &prefix])?;
            let id = answer["header"]["cluster_id"].as_u64().ok_or("no cluster id")?;
            if Some(id) == lost {
                return Err(format!("the lost etcd cluster {id:x} still answers"));
            }
            let keys = keys(&answer);
            let count = |part: &str| keys.iter().filter(|key| key.contains(part)).count();
            match (count("/members/shop-"), count("/groups/students")) {
                (3, 1) => Ok(id),
                _ => Err(format!("{keys:?}")),
            }
        });
        (id, begin.elapsed())
    }

    /// Waits until three members have a vote.
    pub(crate) fn wait_three_voters(&self) {
        poll::until("three voters", Duration::from_secs(120), || {
            let answer = self.etcdctl(&["member", "list"])?;
            let members = answer["members"].as_array().cloned().unwrap_or_default();
            let voters: BTreeSet<u64> = members
                .iter()
                .filter(|member| member["isLearner"] != true && member["name"].is_string())
                .filter_map(|member| member["ID"].as_u64())
                .collect();
            let as_wanted = voters.len() == 3 && members.len() == 3;
            if as_wanted { Ok(()) } else { Err(answer["members"].to_string()) }
        });
    }

    /// Waits until the only claims are those of three members.
    pub(crate) fn wait_three_claims(&self) {
        poll::until("three claims", OBJECTS_LIMIT, || {
            let query = ["persistentvolumeclaims", "--namespace", &self.shop.namespace];
            let list = self.world.cluster.json(&query)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].clone()).collect();
            if names.len() == 3 { Ok(()) } else { Err(format!("{names:?}")) }
        });
    }

    /// Scales every member's StatefulSet to nothing, with its volume kept, and waits until no pod
    /// is left. The operator must not run.
    pub(crate) fn stop(&self) {
        let place = ["--namespace", self.shop.namespace.as_str()];
        let query = [&["statefulsets", "--selector", PODS], &place[..]].concat();
        let list = self.world.cluster.json(&query).expect("StatefulSets");
        let policy = serde_json::json!({"whenScaled": "Retain", "whenDeleted": "Delete"});
        let spec = serde_json::json!({
            "replicas": 0, "persistentVolumeClaimRetentionPolicy": policy,
        });
        let patch = serde_json::json!({"spec": spec}).to_string();
        for set in list["items"].as_array().expect("a list") {
            let name = set["metadata"]["name"].as_str().expect("a name");
            let patch = ["patch", "statefulset", name, "--patch", &patch];
            self.world.cluster.must(&[&patch[..], &place].concat());
        }
        poll::until("no etcd pod", OBJECTS_LIMIT, || self.check_no_pods());
    }

    /// # Errors
    /// When there is a pod, ready or not.
    pub(crate) fn check_no_pods(&self) -> Result<(), String> {
        let query = ["pods", "--namespace", &self.shop.namespace, "--selector", PODS];
        let count = self.world.cluster.json(&query)?["items"].as_array().map_or(0, Vec::len);
        if count == 0 { Ok(()) } else { Err(format!("{count} etcd pods exist")) }
    }

    fn etcdctl(&self, arguments: &[&str]) -> Result<Value, String> {
        let pods = self.world.cluster.pods(&self.shop.namespace, PODS)?;
        let urls: Vec<String> =
            pods.iter().map(|pod| format!("http://{}:2379", pod.address)).collect();
        let mut etcdctl = self.world.cluster.program("etcdctl");
        etcdctl.args(["--endpoints", &urls.join(","), "--command-timeout", "2s"]);
        etcdctl.args(["--write-out", "json"]).args(arguments);
        serde_json::from_str(&process::output(&mut etcdctl)?).map_err(|e| e.to_string())
    }
}

/// The keys of an answer, which has them in base64.
fn keys(answer: &Value) -> Vec<String> {
    let entries = answer["kvs"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| STANDARD.decode(entry["key"].as_str()?).ok())
        .map(|key| String::from_utf8_lossy(&key).into_owned())
        .collect()
}
