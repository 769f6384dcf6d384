//! The product on a real Kubernetes, installed by helm and used as its users do.
//!
//! One cluster `shop`, made from `manifests/examples/shop.yaml` over a real PostgreSQL, is shared
//! by the tests that leave it as they found it; they take turns by one lock. Deletion and
//! mistakes have namespaces of their own.
#![expect(clippy::print_stdout, reason = "the tests print the figures that they measure")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use larder_e2e::cluster::{Cluster, Pod, repository, repository_file};
use larder_e2e::poll;
use larder_e2e::postgres::Postgres;
use larder_e2e::process;
use larder_e2e::prometheus::{Prometheus, http_get_any};
use larder_e2e::reader::Reader;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// Where the operator is installed.
const SYSTEM: &str = "larder-system";
/// Where the shared CacheCluster lives.
const SHOP: &str = "shop";
/// Namespaces whose resources the operator watches, besides none.
const WATCHED: [&str; 3] = [SHOP, "short-lived", "mistakes"];
const MEMBERS: &str = "larder.dev/cluster=shop,app.kubernetes.io/component=member";

/// What the Rust client gives a read unless told otherwise.
const CLIENT_DEADLINE: Duration = Duration::from_secs(10);

/// Everything that the tests share.
struct World {
    cluster: Cluster,
    postgres: Postgres,
    apply_to_ready: Duration,
    apply_to_first_hit: Duration,
}

/// The world, to one test at a time.
struct Turn {
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
fn world() -> Turn {
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

    fn member_pods(&self) -> Vec<Pod> {
        let mut pods = self.cluster.pods(SHOP, MEMBERS).expect("pods can be listed");
        pods.sort();
        pods
    }

    fn grpc_addresses(&self) -> Vec<String> {
        self.member_pods().iter().map(|pod| format!("{}:7600", pod.address)).collect()
    }

    fn get(&self, group: &str, key: &str) -> Result<String, String> {
        let service = service_address(&self.cluster, SHOP).map(|ip| format!("{ip}:7600"))?;
        grpcurl_get(&self.cluster, &service, group, key)
    }

    fn wait_members(&self, count: usize) -> Duration {
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
    let chart = repository().join("charts/larder").display().to_string();
    let watch = format!("watchNamespaces={{{}}}", WATCHED.join(","));
    let mut helm = cluster.program("helm");
    helm.args(["upgrade", "--install", "larder", &chart, "--namespace", SYSTEM]);
    helm.args(["--set", &watch, "--wait", "--timeout", "120s"]);
    let begun = Instant::now();
    process::output(&mut helm).unwrap_or_else(|e| panic!("helm install: {e}"));
    println!("helm install: {:.1} s", begun.elapsed().as_secs_f64());
}

fn sample() -> String {
    repository_file("manifests/examples/shop.yaml")
}

/// The Secret that the sample's CacheGroup names.
fn offer_database(cluster: &Cluster, namespace: &str, url: &str) {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: students-db}}\nstringData: {{url: \"{url}\"}}\n"
    );
    cluster.apply(namespace, &secret).expect("a Secret can be made");
}

fn service_address(cluster: &Cluster, namespace: &str) -> Result<String, String> {
    cluster.field(&["service", "shop", "--namespace", namespace], "/spec/clusterIP")
}

/// Reads with grpcurl, which knows nothing of Larder but what reflection tells.
fn grpcurl_get(cluster: &Cluster, address: &str, group: &str, key: &str) -> Result<String, String> {
    let request = serde_json::json!({"group": group, "key": base64(key), "explain": true});
    let mut grpcurl = cluster.program("grpcurl");
    grpcurl.args(["-plaintext", "-max-time", "5", "-d", &request.to_string()]);
    let answer = process::output(grpcurl.args([address, "larder.v1.Cache/Get"]))?;
    serde_json::from_str::<Value>(&answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

/// protobuf's JSON form has bytes in base64.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| (w << 8) | u32::from(*b));
        let word = word << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

fn value_of(answer: &str) -> Value {
    serde_json::from_str::<Value>(answer).expect("JSON")["value"].clone()
}

fn source_of(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    answer.pointer("/explanation/source").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn first_hit(cluster: &Cluster, begun: Instant) -> Duration {
    poll::until("the first hit", Duration::from_secs(120), || {
        let address = service_address(cluster, SHOP)?;
        let answer = grpcurl_get(cluster, &format!("{address}:7600"), "students", "Tom")?;
        match source_of(&answer).as_str() {
            "SOURCE_LOADED" => Err("loaded, not yet a hit".into()),
            _ => Ok(()),
        }
    });
    begun.elapsed()
}

fn ring_members(address: &str) -> Result<usize, String> {
    let metrics = larder_e2e::prometheus::http_get(&format!("{address}:7690"), "/metrics")?;
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("larder_ring_members "))
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| "no larder_ring_members".into())
}

#[test]
fn the_sample_becomes_ready_and_serves_a_databases_rows() {
    let world = world();
    println!(
        "kubectl apply to Ready: {:.1} s, to the first hit: {:.1} s",
        world.apply_to_ready.as_secs_f64(),
        world.apply_to_first_hit.as_secs_f64()
    );
    let hit = world.get("students", "Tom").expect("a row");
    assert_eq!(value_of(&hit), base64("630"));
    assert!(hit.contains("shop-"), "the explanation names the owner: {hit}");

    let absent = world.get("students", "Nobody").expect_err("no row");
    assert!(absent.contains("NotFound"), "{absent}");
    let unknown = world.get("teachers", "Tom").expect_err("no such group");
    assert!(unknown.contains("FailedPrecondition") && unknown.contains("teachers"), "{unknown}");
    let empty = world.get("students", "").expect_err("no key");
    assert!(empty.contains("InvalidArgument"), "{empty}");

    let service = service_address(&world.cluster, SHOP).expect("a Service");
    let (status, body) =
        http_get_any(&format!("{service}:7680"), "/api?group=students&key=Tom").expect("HTTP");
    assert_eq!((status, body.contains("630")), (200, true), "{body}");
    let group = world.cluster.condition(SHOP, "cachegroup/students", "Ready").expect("a status");
    assert_eq!(group.status, "True", "{group:?}");
}

#[test]
fn pods_are_restricted_and_members_hold_no_token() {
    let world = world();
    let pods = world.cluster.json(&["pods", "--namespace", SHOP]).expect("pods");
    let pods = pods["items"].as_array().expect("a list");
    assert!(pods.len() >= 6, "three members and three etcd members");
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
        let nodes = pod.pointer("/spec/containers/0/securityContext").expect("a context");
        assert_eq!(nodes["readOnlyRootFilesystem"], true, "{name}");
    }
    let nodes: std::collections::BTreeSet<String> =
        world.member_pods().into_iter().map(|pod| pod.node).collect();
    assert_eq!(nodes.len(), 3, "members spread over the nodes");
}

#[test]
fn a_group_edit_takes_effect_without_a_restart() {
    let world = world();
    let before = world.member_pods();
    world.get("students", "Tom").expect("a row");
    let edited = sample()
        .replace("SELECT score FROM students", "SELECT score + 1000 FROM students")
        .replace("policy: Lru", "policy: S3Fifo");
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
fn a_killed_member_costs_no_reads_and_comes_back() {
    let world = world();
    world.wait_members(3);
    let reader = Reader::start(world.grpc_addresses(), 2000, 100, CLIENT_DEADLINE);
    poll::until("some reads", Duration::from_secs(20), || enough(&reader, 300));
    world.cluster.must(&[
        "delete",
        "pod",
        "shop-1",
        "--namespace",
        SHOP,
        "--grace-period=0",
        "--force",
    ]);
    let healed = world.wait_members(3);
    let seen = reader.reads();
    poll::until("more reads", Duration::from_secs(20), || enough(&reader, seen + 300));
    let report = reader.finish();
    println!(
        "member killed: ring of 3 again after {:.1} s; {} reads, {} failed, slowest {:.0} ms",
        healed.as_secs_f64(),
        report.reads,
        report.failures.len(),
        report.slowest.as_secs_f64() * 1e3
    );
    assert!(report.failures.is_empty(), "{:?}", &report.failures[..report.failures.len().min(5)]);
}

#[test]
fn scaling_to_four_and_back_fails_no_read() {
    let world = world();
    world.wait_members(3);
    let reader = Reader::start(world.grpc_addresses(), 2000, 500, CLIENT_DEADLINE);
    poll::until("some reads", Duration::from_secs(20), || enough(&reader, 1000));
    let scale = |count: usize| {
        let replicas = format!("--replicas={count}");
        world.cluster.must(&["scale", "cachecluster/shop", &replicas, "--namespace", SHOP]);
        let took = world.wait_members(count);
        world.cluster.wait_true(SHOP, "cachecluster/shop", "Ready", Duration::from_secs(30));
        took
    };
    let (up, down) = (scale(4), scale(3));
    let report = reader.finish();
    println!(
        "scale 3→4 {:.1} s, 4→3 {:.1} s; {} reads at 500/s, {} failed, slowest {:.0} ms",
        up.as_secs_f64(),
        down.as_secs_f64(),
        report.reads,
        report.failures.len(),
        report.slowest.as_secs_f64() * 1e3
    );
    assert!(report.failures.is_empty(), "{:?}", &report.failures[..report.failures.len().min(5)]);
}

fn enough(reader: &Reader, count: u64) -> Result<(), String> {
    let reads = reader.reads();
    if reads >= count { Ok(()) } else { Err(format!("{reads} reads")) }
}

#[test]
fn prometheus_scrapes_every_member_and_knows_the_true_hit_ratio() {
    let world = world();
    world.wait_members(3);
    let targets: Vec<String> =
        world.member_pods().iter().map(|pod| format!("\"{}:7690\"", pod.address)).collect();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: larder\n  \
         static_configs:\n  - targets: [{}]\n",
        targets.join(", ")
    );
    let prometheus = Prometheus::start(world.cluster.host(), 19090, &config);
    poll::until("every member is up", Duration::from_secs(30), || {
        let up = prometheus.query("up == 1")?;
        if up.len() == 3 { Ok(()) } else { Err(format!("{up:?}")) }
    });
    // Two totals, two seconds of scrapes apart from any read, and known reads between them.
    let totals = || {
        let of = |query: &str| -> Result<f64, String> {
            Ok(prometheus.query(query)?.first().map_or(0.0, |(_, value)| *value))
        };
        let all = of("sum(larder_gets_total{group=\"students\"})")?;
        let misses = of("sum(larder_gets_total{group=\"students\",result=~\"miss|error\"})")?;
        Ok::<(f64, f64), String>((all, misses))
    };
    let settled = || {
        let mut last = None;
        poll::until("settled totals", Duration::from_secs(20), || {
            let now = totals()?;
            std::thread::park_timeout(Duration::from_millis(1500));
            if last.replace(now) == Some(now) { Ok(now) } else { Err(format!("{now:?}")) }
        })
        .0
    };
    let before = settled();
    let (fresh, repeats) = (20_u32, 4_u32);
    for _ in 0..=repeats {
        for number in 0..fresh {
            world.get("students", &format!("student{}", 4900 + number)).expect("a row");
        }
    }
    let after = settled();
    let (asked, missed) = (after.0 - before.0, after.1 - before.1);
    println!("Prometheus counted {asked} reads and {missed} misses of 100 reads with 20 misses");
    assert!((asked - 100.0).abs() < 0.5 && (missed - 20.0).abs() < 0.5, "{asked} {missed}");
    let shown = prometheus.query("larder_hit_ratio{group=\"students\"}").expect("a ratio");
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown.iter().all(|(_, ratio)| (0.0..=1.0).contains(ratio)), "{shown:?}");
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
fn an_application_reads_through_its_sidecar() {
    let world = world();
    let manifest = repository_file("manifests/examples/sidecar.yaml");
    world.cluster.apply(SHOP, &manifest).expect("the example is accepted");
    poll::until("the example's Job completes beside its sidecar", Duration::from_secs(60), || {
        let done =
            world.cluster.field(&["job/reader", "--namespace", SHOP], "/status/succeeded")?;
        if done == "1" { Ok(()) } else { Err(done) }
    });
    let log = world.cluster.must(&[
        "logs",
        "job/reader",
        "--namespace",
        SHOP,
        "--container",
        "application",
    ]);
    assert!(log.contains("630"), "{log}");
    println!("the application printed: {}", log.lines().next().unwrap_or_default());
    let mut delete = world.cluster.program("kubectl");
    delete.args(["delete", "--namespace", SHOP, "--wait=false", "--filename"]);
    delete.arg(repository().join("manifests/examples/sidecar.yaml"));
    process::output(&mut delete).expect("deleted");
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
