//! What the tests share: the installation, the cluster `shop`, its database.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use larder_e2e::cluster::{Cluster, Pod, repository, repository_file};
use larder_e2e::poll;
use larder_e2e::postgres::Postgres;
use larder_e2e::process;
use larder_e2e::prometheus::http_get;
use larder_e2e::reader::Reader;
use parking_lot::{Mutex, MutexGuard};

use crate::grpc;

/// Where the operator is installed.
pub(crate) const SYSTEM: &str = "larder-system";
/// Where the shared CacheCluster lives.
pub(crate) const SHOP: &str = "shop";
/// Namespaces whose resources the operator watches, besides none.
const WATCHED: [&str; 5] = [SHOP, "short-lived", "mistakes", "lossy", "own-etcd"];
/// The pods of the members of every cluster `shop`.
const MEMBERS: &str = "larder.dev/cluster=shop,app.kubernetes.io/component=member";

/// What a read is given: half of what the client gives by itself, so that a second round of tries
/// hides no silence.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Everything that the tests share.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) postgres: Postgres,
    pub(crate) apply_to_ready: Duration,
    pub(crate) apply_to_first_hit: Duration,
}

/// The world, to one test at a time.
pub(crate) struct Turn {
    world: &'static World,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Turn {
    type Target = World;

    fn deref(&self) -> &World {
        self.world
    }
}

/// Made by the first test that asks; a world that could not be made fails the others at once.
pub(crate) fn world() -> Turn {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock();
    let world = WORLD.get_or_init(|| std::panic::catch_unwind(World::make).ok());
    Turn { world: world.as_ref().expect("the world was made; see the first test"), _turn: turn }
}

impl World {
    fn make() -> Self {
        let cluster = Cluster::from_environment();
        for namespace in WATCHED {
            cluster.namespace(namespace);
        }
        cluster.namespace(SYSTEM);
        install(&cluster);
        let postgres = Postgres::start(cluster.host(), 15432);
        offer_database(&cluster, SHOP, &postgres.url());
        let begun = Instant::now();
        cluster.apply(SHOP, &sample()).expect("the sample is accepted");
        let (first_hit, ready) = std::thread::scope(|scope| {
            let hit = scope.spawn(|| first_hit(&cluster, begun));
            let ready =
                cluster.wait_true(SHOP, "cachecluster/shop", "Ready", Duration::from_secs(120));
            (hit.join().expect("a first hit"), ready)
        });
        Self { cluster, postgres, apply_to_ready: ready, apply_to_first_hit: first_hit }
    }

    /// The members that are ready, in order.
    pub(crate) fn member_pods(&self) -> Vec<Pod> {
        self.members_in(SHOP)
    }

    fn members_in(&self, namespace: &str) -> Vec<Pod> {
        let mut pods = self.cluster.pods(namespace, MEMBERS).expect("pods can be listed");
        pods.sort();
        pods
    }

    /// Reads 2,000 keys around and around through the cluster `shop` of a namespace, and returns
    /// when it is under way.
    pub(crate) fn reader(&self, namespace: &str, per_second: u32) -> Reader {
        let address = |pod: &Pod| format!("{}:7600", pod.address);
        let members = self.members_in(namespace).iter().map(address).collect();
        let reader = Reader::start(members, 2000, per_second, READ_DEADLINE);
        await_reads(&reader, u64::from(2 * per_second));
        reader
    }

    /// One read through the shared cluster's Service.
    pub(crate) fn get(&self, group: &str, key: &str) -> Result<String, String> {
        grpc::get(&self.cluster, (SHOP, "shop"), group, key)
    }

    /// Scales the operator and waits until its pods are ready, or gone.
    pub(crate) fn operators(&self, count: usize) {
        let scale = format!("--replicas={count}");
        self.cluster.must(&["scale", "deployment/larder", &scale, "--namespace", SYSTEM]);
        let selector = ["--selector", "app.kubernetes.io/name=larder-operator"];
        let pods = [&["pods", "--namespace", SYSTEM], &selector[..]].concat();
        poll::until("operators", Duration::from_secs(60), || {
            let there = self.cluster.json(&pods)?["items"].as_array().map_or(0, Vec::len);
            let ready = self.cluster.pods(SYSTEM, selector[1])?.len();
            if (there, ready) == (count, count) { Ok(()) } else { Err(format!("{there}, {ready}")) }
        });
    }

    /// Waits until so many members are ready and each sees all of them.
    pub(crate) fn wait_members(&self, count: usize) -> Duration {
        poll::until(&format!("{count} members"), Duration::from_secs(60), || {
            let pods = self.member_pods();
            if pods.len() != count {
                return Err(format!("{} pods are ready", pods.len()));
            }
            for pod in &pods {
                let ring = ring_members(&pod.address)?;
                if ring != count {
                    return Err(format!("{} sees {ring} members", pod.name));
                }
            }
            Ok(())
        })
        .1
    }
}

/// `helm install` as the README says, and the operator's Deployment available.
fn install(cluster: &Cluster) {
    let begun = Instant::now();
    helm_install(cluster, "larder", SYSTEM, &[&watch_namespaces()])
        .unwrap_or_else(|e| panic!("helm install: {e}"));
    println!("helm install: {:.1} s", begun.elapsed().as_secs_f64());
}

/// Installs the chart, or upgrades the release, and waits until its pods are ready; what helm says.
pub(crate) fn helm_install(
    cluster: &Cluster,
    release: &str,
    namespace: &str,
    settings: &[&str],
) -> Result<String, String> {
    let mut helm = cluster.program("helm");
    helm.args(["upgrade", "--install", release]).arg(repository().join("charts/larder"));
    helm.args(["--namespace", namespace, "--wait", "--timeout", "120s"]);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    process::output(&mut helm)
}

/// The shared release's `watchNamespaces`, as `--set` takes it.
pub(crate) fn watch_namespaces() -> String {
    format!("watchNamespaces={{{}}}", WATCHED.join(","))
}

/// The sample that users are given.
pub(crate) fn sample() -> String {
    repository_file("manifests/examples/shop.yaml")
}

/// The Secret that the sample's CacheGroup names.
pub(crate) fn offer_database(cluster: &Cluster, namespace: &str, url: &str) {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: students-db}}\nstringData: {{url: \"{url}\"}}\n"
    );
    cluster.apply(namespace, &secret).expect("a Secret can be made");
}

fn first_hit(cluster: &Cluster, begun: Instant) -> Duration {
    poll::until("the first hit", Duration::from_secs(120), || {
        let answer = grpc::get(cluster, (SHOP, "shop"), "students", "Tom")?;
        match grpc::source_of(&answer).as_str() {
            "SOURCE_LOADED" => Err("loaded, not yet a hit".into()),
            _ => Ok(()),
        }
    });
    begun.elapsed()
}

fn ring_members(address: &str) -> Result<usize, String> {
    let count = metric(address, "larder_ring_members")?;
    format!("{count:.0}").parse().map_err(|e| format!("{count}: {e}"))
}

/// One number out of a pod's metrics.
pub(crate) fn metric(address: &str, name: &str) -> Result<f64, String> {
    let metrics = http_get(&format!("{address}:7690"), "/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("no {name}"))?;
    value.trim().parse().map_err(|e| format!("{name} {value}: {e}"))
}

/// Waits until a reader has done so many reads.
pub(crate) fn await_reads(reader: &Reader, count: u64) {
    poll::until("reads", Duration::from_secs(30), || match reader.reads() {
        reads if reads >= count => Ok(()),
        reads => Err(format!("{reads} of {count} reads")),
    });
}

/// Prints what a reader saw; no read may have failed.
pub(crate) fn no_read_failed(what: &str, reader: Reader) {
    let report = reader.finish();
    println!(
        "{what}; {} reads, {} failed, slowest {:.0} ms",
        report.reads,
        report.failures.len(),
        report.slowest.as_secs_f64() * 1e3
    );
    // The first of each kind: a thousand that were refused tell less than the one that hung.
    let mut kinds = std::collections::BTreeMap::new();
    for (at, error) in &report.failures {
        let kind = error.split_once(": ").map_or(error.as_str(), |(_, error)| error);
        kinds.entry(kind).or_insert((0, at)).0 += 1;
    }
    assert!(report.failures.is_empty(), "{kinds:#?}");
}
