//! The changes of W1 to W7, made as an administrator or an accident makes them.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use larder_e2e::cluster::{Cluster, Pod};
use larder_e2e::prometheus::http_get;
use larder_e2e::warmth::load::Load;
use larder_e2e::warmth::trace::Change;
use larder_e2e::{poll, process};

use crate::shop::Shop;
use crate::world::World;

/// The program of a member.
const PROGRAM: &str = "larder-node";
/// Longest wait for a change to end.
const LIMIT: Duration = Duration::from_secs(180);
/// Pause between two calls of kubectl, each of which takes a tenth of a second of a processor.
const PACE: Duration = Duration::from_secs(1);
/// Pause between two checks of a starting member.
const READY_PACE: Duration = Duration::from_millis(50);
/// How long four members serve before one of them leaves.
const FOUR_MEMBERS: Duration = Duration::from_secs(15);
/// Process id of the `cargo xtask` that runs the tests.
const XTASK: &str = "LARDER_E2E_XTASK";

/// Makes the change of a promise and waits until it has ended. What is returned in addition undoes
/// it when dropped.
pub(super) fn make(world: &World, shop: &Shop, load: &Load, name: &str) -> (Change, Option<Undo>) {
    match name {
        "W1" => (roll(world, shop), None),
        "W2" => (scale(world, shop, load), None),
        "W3" => drain(world, shop),
        "W4" => (kill(shop), None),
        "W5" => stop_node(shop),
        "W6" => (kill_all(shop), None),
        "W7" => (restart(shop), None),
        other => panic!("there is no {other}"),
    }
}

/// Brings a Kubernetes node back.
#[derive(Debug)]
pub(super) enum Undo {
    Uncordon(Cluster, String),
    Start(String),
}

impl Drop for Undo {
    fn drop(&mut self) {
        let undone = match self {
            Self::Uncordon(cluster, node) => cluster.kubectl(&["uncordon", node]),
            Self::Start(node) => xtask(&["kube", "start-node", number(node)]),
        };
        // A panic here would end the program when the test has failed.
        if let Err(error) = undone {
            println!("the node is not back: {error}");
        }
    }
}

/// A change that began at `begin` and has ended now.
fn since(begin: Instant) -> Change {
    Change { begin, end: Instant::now(), recovery_from: begin }
}

/// W1: every member is replaced, one after the other.
fn roll(world: &World, shop: &Shop) -> Change {
    let uids: BTreeSet<String> = shop.member_pods().into_iter().map(|pod| pod.uid).collect();
    let begin = Instant::now();
    let memory = r#"{"spec": {"memory": "576Mi"}}"#;
    let place = ["--namespace", &shop.namespace, "--type=merge", "--patch", memory];
    world.cluster.must(&[&["patch", "cachecluster/shop"], &place[..]].concat());
    poll::until_at(PACE, "every member is replaced", LIMIT, || {
        let pods = shop.member_pods();
        let new = pods.iter().filter(|pod| !uids.contains(&pod.uid)).count();
        if new == 3 { Ok(()) } else { Err(format!("{new} of 3 are new")) }
    });
    since(begin)
}

/// W2: a fourth member joins, serves for a while and leaves.
fn scale(world: &World, shop: &Shop, load: &Load) -> Change {
    let begin = Instant::now();
    let to = |count: usize| {
        let replicas = format!("--replicas={count}");
        let place = ["cachecluster/shop", "--namespace", &shop.namespace];
        world.cluster.must(&[&["scale", &replicas], &place[..]].concat());
        shop.wait_members(count);
    };
    to(4);
    load.run_for(FOUR_MEMBERS);
    to(3);
    since(begin)
}

/// W3: the pods of a node are evicted, the member's starts elsewhere.
fn drain(world: &World, shop: &Shop) -> (Change, Option<Undo>) {
    let victim = beyond_the_first_node(shop);
    let undo = Undo::Uncordon(world.cluster.clone(), victim.node.clone());
    let begin = Instant::now();
    let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
    world.cluster.must(&[&["drain", &victim.node], &flags[..]].concat());
    poll::until_at(PACE, "the member runs elsewhere", LIMIT, || {
        let pods = shop.member_pods();
        let moved = pods.iter().any(|pod| pod.name == victim.name && pod.uid != victim.uid);
        if pods.len() == 3 && moved { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    (since(begin), Some(undo))
}

/// W4: the process of a member is killed. The kubelet starts its container again.
fn kill(shop: &Shop) -> Change {
    let victim = Member::of(beyond_the_first_node(shop));
    let begin = Instant::now();
    process::signal(victim.process, "KILL");
    victim.wait_restarted();
    since(begin)
}

/// W5: all of a node ends at once and its link goes down.
fn stop_node(shop: &Shop) -> (Change, Option<Undo>) {
    let victim = beyond_the_first_node(shop);
    let undo = Undo::Start(victim.node.clone());
    let begin = Instant::now();
    xtask(&["kube", "stop-node", number(&victim.node)]).expect("a node can be stopped");
    (since(begin), Some(undo))
}

/// W6: the processes of all members are killed at once. Recovery counts from the first that is
/// ready again.
fn kill_all(shop: &Shop) -> Change {
    let members: Vec<Member> = shop.member_pods().into_iter().map(Member::of).collect();
    let begin = Instant::now();
    for member in &members {
        process::signal(member.process, "KILL");
    }
    let ready = std::thread::scope(|scope| {
        let waits: Vec<_> =
            members.iter().map(|member| scope.spawn(|| member.wait_restarted())).collect();
        waits.into_iter().map(|wait| wait.join().expect("a member restarts")).collect::<Vec<_>>()
    });
    let recovery_from = ready.into_iter().min().expect("three members");
    Change { recovery_from, ..since(begin) }
}

/// W7: a member ends as it should and its container starts again in the same pod. Recovery counts
/// from when it is ready again.
fn restart(shop: &Shop) -> Change {
    let victim = Member::of(beyond_the_first_node(shop));
    let begin = Instant::now();
    process::signal(victim.process, "TERM");
    let recovery_from = victim.wait_restarted();
    Change { recovery_from, ..since(begin) }
}

/// A member's pod and its process.
struct Member {
    pod: Pod,
    process: u32,
}

impl Member {
    fn of(pod: Pod) -> Self {
        let process = process::of_pod(&pod.uid, PROGRAM);
        let [process] = process[..] else { panic!("{} has processes {process:?}", pod.name) };
        Self { pod, process }
    }

    /// Waits until another process of the same pod is ready. Returns when it was.
    fn wait_restarted(&self) -> Instant {
        let admin = format!("{}:7690", self.pod.address);
        poll::until_at(READY_PACE, "the container restarts in place", LIMIT, || {
            match process::of_pod(&self.pod.uid, PROGRAM)[..] {
                [process] if process != self.process => http_get(&admin, "/readyz").map(drop),
                ref processes => Err(format!("its processes are {processes:?}")),
            }
        });
        Instant::now()
    }
}

/// A member whose node may end: the tests and the control plane are on the first one.
fn beyond_the_first_node(shop: &Shop) -> Pod {
    let pods = shop.member_pods();
    pods.into_iter().find(|pod| number(&pod.node) != "1").expect("members spread over the nodes")
}

fn number(node: &str) -> &str {
    node.strip_prefix("node").expect("nodes are called node1 to node9")
}

/// Runs the same xtask in the network of that process: it reaches the API server from there only.
fn xtask(arguments: &[&str]) -> Result<String, String> {
    let id = std::env::var(XTASK).map_err(|e| format!("{XTASK}: {e}"))?;
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &id, "--net", "--", &format!("/proc/{id}/exe")]);
    process::output(nsenter.args(arguments))
}
