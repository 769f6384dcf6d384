//! A cluster under test: members, registry, and an origin that counts its loads.

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_node::app::{Addresses, App, Options, Running};
use larder_node::cache::Cache;
use larder_node::config::{Config, Identity};
use larder_node::origin::{self, Loaded};
use larder_proto::config::{
    ClusterRef, Limits, Listen, MemberMode, Mode, NodeConfig, Placement, RegistryConfig,
    SidecarMode, SnapshotConfig,
};
use larder_proto::contract::{
    Freshness, GroupContract, HttpOrigin, Origin as OriginContract, OriginLimits,
};
use larder_proto::keys::Keys;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{GetRequest, GetResponse, RingRequest};
use larder_registry::RegistryOptions;
use larder_runtime::net;
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

mod http;

pub(crate) use self::http::{http_get, http_get_of, raw_get};

use super::batch;
use super::links::Links;
use super::tls_rig::ClusterTls;

/// Memory of a member.
pub(super) const CAPACITY_BYTES: u64 = 8 << 20;
/// The memory limit that belongs to [`CAPACITY_BYTES`].
pub(super) const MEMORY_BYTES: u64 = 34 << 20;
/// TTL of the members' leases: the shortest that etcd grants.
const LEASE_SECONDS: u64 = 2;

/// Counts its loads. The value of a key is its text and the number of its load. The key `k#a,b` has
/// the tags `a` and `b`.
pub(crate) struct Origin {
    loads: Mutex<HashMap<Bytes, usize>>,
    pub(crate) delay_ms: AtomicU64,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// Calls for the group that can load several keys.
    pub(super) calls: AtomicUsize,
}

/// Counts a load among the running ones until it is dropped.
struct RunningLoad(Arc<Origin>);

pub(crate) struct Cluster {
    pub(crate) origin: Arc<Origin>,
    pub(crate) registry: larder_registry::EmbeddedRegistry,
    tasks: Tasks,
    members: Vec<Option<Running>>,
    channels: Vec<Channel>,
    pub(super) keys: Keys,
    pub(super) links: Links,
    limits: Limits,
    /// Where members keep snapshots, if they do.
    pub(super) snapshots: Option<tempfile::TempDir>,
    /// Of the members that are added from now on. Without replicas, the loads of a test do not
    /// depend on its duration.
    pub(crate) replica_percent: u8,
    /// Part of the memory for copies of other members' entries.
    hot_percent: u32,
    /// The file with the memory limit of the next member; it begins with [`MEMORY_BYTES`].
    pub(super) memory_limit: Option<PathBuf>,
    /// Certificates, if the cluster speaks TLS.
    pub(super) tls: Option<ClusterTls>,
}

/// A member in a process of its own.
pub(crate) struct Process {
    child: tokio::process::Child,
    channel: Channel,
    _folder: tempfile::TempDir,
}

impl Process {
    pub(crate) fn client(&self) -> CacheClient<Channel> {
        CacheClient::new(self.channel.clone())
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until the process is ready.
    pub(super) async fn ready(&self) {
        let health = HealthClient::new(self.channel.clone());
        let serving = || async {
            let answer = health.clone().check(HealthCheckRequest::default()).await;
            answer.is_ok_and(|answer| answer.into_inner().status == 1)
        };
        eventually(Duration::from_secs(10), serving).await;
    }

    /// SIGKILL.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("a child");
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) async fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let exit = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        exit.expect("stops in time").expect("a child").code()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("running")).expect("a process id");
        let pid = Pid::from_raw(id).expect("a process id");
        kill_process(pid, signal).expect("a child process");
    }
}

impl Origin {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            loads: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        })
    }

    /// Loads so far, and the most that ran at one time.
    pub(crate) fn loads(&self) -> (usize, usize) {
        (self.loads.lock().values().sum(), self.most_running.load(Ordering::SeqCst))
    }

    fn run(self: &Arc<Self>) -> RunningLoad {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        RunningLoad(self.clone())
    }

    pub(crate) fn loads_of(&self, key: &str) -> usize {
        self.loads.lock().get(key.as_bytes()).copied().unwrap_or(0)
    }

    pub(super) async fn load(self: Arc<Self>, key: Bytes) -> Result<Loaded, origin::Error> {
        let _running = self.run();
        let number = {
            let mut loads = self.loads.lock();
            let number = loads.entry(key.clone()).or_default();
            *number += 1;
            *number
        };
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))).await;
        match &key[..] {
            b"absent" => Ok(Loaded::Absent),
            b"empty" => Ok(Loaded::Value(Bytes::new())),
            b"binary" => Ok(Loaded::Value(Bytes::from_static(&[0xff, 0xfe, 0xfd]))),
            // Ten KiB each.
            key if key.starts_with(b"large") => Ok(Loaded::Value(vec![b'x'; 10 << 10].into())),
            b"fails" => Err(origin::Error::other("planned")),
            b"blocks" => {
                block_thread();
                Ok(Loaded::Value(key))
            }
            b"panics" => std::panic::resume_unwind(Box::new("planned")),
            _ => {
                let value = [&key[..], b" ", number.to_string().as_bytes()].concat().into();
                let tags = key.split(|byte| b"#,".contains(byte)).skip(1);
                Ok(Loaded::Tagged { value, tags: tags.map(Bytes::copy_from_slice).collect() })
            }
        }
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cluster {
    /// Starts members `shop-0`, `shop-1`, ... and waits until all have the whole ring.
    pub(crate) async fn start(members: usize) -> Self {
        Self::start_with(members, Limits::default()).await
    }

    /// [`Cluster::start`] with limits of the members, except their number of threads.
    pub(crate) async fn start_with(members: usize, limits: Limits) -> Self {
        let mut cluster = Self::empty(Origin::new());
        cluster.limits = limits;
        cluster.add_all(members).await;
        cluster
    }

    /// [`Cluster::start`] with members that keep no copies: every read of another member's key is
    /// forwarded.
    pub(super) async fn start_without_copies(members: usize) -> Self {
        let mut cluster = Self::empty(Origin::new());
        cluster.hot_percent = 0;
        cluster.add_all(members).await;
        cluster
    }

    /// [`Cluster::start`] with members that keep snapshots.
    pub(super) async fn start_with_snapshots(members: usize) -> Self {
        let mut cluster = Self::empty(Origin::new());
        cluster.snapshots = Some(tempfile::tempdir().expect("a folder"));
        cluster.add_all(members).await;
        cluster
    }

    /// [`Cluster::start`] with certificates for every member.
    pub(super) async fn start_with_tls(members: usize) -> Self {
        let mut cluster = Self::empty(Origin::new());
        cluster.tls = Some(ClusterTls::new());
        cluster.add_all(members).await;
        cluster
    }

    async fn add_all(&mut self, members: usize) {
        for index in 0..members {
            self.add(&format!("shop-{index}"), CAPACITY_BYTES);
        }
        self.whole().await;
    }

    /// Waits until every member that was added is ready and has the whole ring.
    pub(super) async fn whole(&self) {
        let ready =
            || async { self.members.iter().flatten().all(|member| member.ready().is_ready()) };
        self.eventually(Duration::from_secs(10), ready).await;
        let members = self.members.len();
        for index in 0..members {
            let whole = || async { self.ring_of(index).await.len() == members };
            self.eventually(Duration::from_secs(10), whole).await;
        }
    }

    /// Starts a member again that was taken, in the same pod.
    pub(super) fn restart(&mut self, member: usize) {
        assert!(self.members[member].is_none(), "it runs");
        self.add(&format!("shop-{member}"), CAPACITY_BYTES);
        self.members.swap_remove(member);
        self.channels.swap_remove(member);
    }

    /// [`eventually`], which prints the last state of each member if it panics.
    pub(crate) async fn eventually<F: Future<Output = bool>>(
        &self,
        limit: Duration,
        holds: impl Fn() -> F,
    ) {
        if !poll(limit, holds).await {
            let states = (0..self.members.len()).map(|index| self.describe(index));
            let states = futures::future::join_all(states).await.join("\n");
            panic!("not within {limit:?}; the members:\n{states}");
        }
    }

    /// The state of one member, in one line.
    async fn describe(&self, member: usize) -> String {
        let Some(running) = &self.members[member] else { return format!("{member}: stopped") };
        let waiting_for = running.ready().waiting_for();
        let mut admin = AdminClient::new(self.channel(member));
        let ring = tokio::time::timeout(Duration::from_secs(1), admin.ring(RingRequest {})).await;
        let ring = ring.map(|answer| {
            answer.map(|ring| {
                let ring = ring.into_inner();
                let names: Vec<_> = ring.members.into_iter().map(|member| member.name).collect();
                (ring.revision, names)
            })
        });
        let connected = self.metric(member, "larder_registry_connected").await;
        format!(
            "{member}: waits for {waiting_for:?}, registry connected {connected:?}, \
             revision and ring {ring:?}"
        )
    }

    pub(super) fn empty(origin: Arc<Origin>) -> Self {
        let tasks = Tasks::new(Handle::current());
        let listener = net::listen(loopback(), false).expect("loopback");
        let registry =
            larder_registry::EmbeddedRegistry::start(listener, RegistryOptions::default(), &tasks)
                .expect("a registry");
        let keys = Keys::new("prod", "shop");
        let (members, channels, links) = (Vec::new(), Vec::new(), Links::default());
        let limits = Limits::default();
        let (snapshots, replica_percent, hot_percent) = (None, 0, 10);
        let memory_limit = None;
        Self {
            origin,
            registry,
            tasks,
            members,
            channels,
            keys,
            links,
            limits,
            snapshots,
            replica_percent,
            hot_percent,
            memory_limit,
            tls: None,
        }
    }

    pub(crate) fn add(&mut self, name: &str, capacity_bytes: u64) {
        self.add_pod(name, &format!("uid of {name}"), capacity_bytes);
    }

    /// Adds a member whose pod has this uid, and returns its index.
    pub(crate) fn add_pod(&mut self, name: &str, uid: &str, capacity_bytes: u64) -> usize {
        let mode = Mode::Member(MemberMode {
            registry: RegistryConfig {
                endpoints: vec![self.registry.endpoint()],
                tls_directory: None,
                lease_ttl_seconds: LEASE_SECONDS,
            },
            placement: Placement::Rendezvous {},
            capacity_bytes,
            memory_bytes: self.memory_limit.as_ref().map(|_| MEMORY_BYTES),
            replica_percent: 0,
            hot_percent: self.hot_percent,
            hot_ttl_ms: 60_000,
            snapshot: self.snapshots.as_ref().map(|folder| SnapshotConfig {
                directory: folder.path().to_str().expect("UTF-8").to_owned(),
                interval_seconds: 1,
                max_bytes: CAPACITY_BYTES,
                bytes_per_second: 1 << 30,
            }),
        });
        let running = self.run(name, uid, mode);
        self.channels.push(self.channel_to(running.addresses().grpc));
        self.members.push(Some(running));
        self.members.len() - 1
    }

    pub(crate) fn is_ready(&self, member: usize) -> bool {
        self.members[member].as_ref().is_some_and(|member| member.ready().is_ready())
    }

    fn run(&self, name: &str, uid: &str, mode: Mode) -> Running {
        let free = || "127.0.0.1:0".to_owned();
        let file = NodeConfig {
            cluster: ClusterRef { namespace: "prod".into(), name: "shop".into() },
            mode,
            listen: Listen { grpc: free(), peer: free(), http: free(), admin: free() },
            limits: Limits { workers: 1, ..self.limits.clone() },
            credentials_directory: String::new(),
            allowed_targets: vec!["127.0.0.0/8".into()],
            tls: self.tls.as_ref().map(|tls| tls.config(name)),
            drain_seconds: 4,
        };
        let identity = Identity {
            name: name.into(),
            uid: uid.into(),
            advertise_host: "127.0.0.1".into(),
            zone: None,
        };
        let config = Config::new(file, identity).expect("valid");
        let origin = self.origin.clone();
        let loader = origin::from_fn(move |key| origin.clone().load(key));
        let options = Options::default()
            .group("students", loader)
            .group(batch::GROUP, batch::Batched(self.origin.clone()))
            .certificate_interval(Duration::from_millis(20))
            .replica_percent(self.replica_percent);
        let options = match &self.memory_limit {
            Some(file) => options.memory_limit_file(file),
            None => options,
        };
        let options = match &self.tls {
            // Links break in plain text only.
            Some(_) => options,
            None => options.transport(self.links.transport(name)),
        };
        App::build(config, options).expect("free ports").spawn().expect("threads")
    }

    /// Starts a member in a process of its own.
    pub(crate) async fn start_process(&self, name: &str) -> Process {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("node.json");
        let listen =
            ["grpc", "peer", "http", "admin"].map(|port| format!("\"{port}\":\"127.0.0.1:0\""));
        let snapshot = self.snapshots.as_ref().map(|folder| {
            let folder = folder.path().display();
            format!(r#""snapshot":{{"directory":"{folder}","intervalSeconds":1}},"#)
        });
        let snapshot = snapshot.unwrap_or_default();
        let before = self.grpc_address(name).await;
        let text = format!(
            r#"{{"cluster":{{"namespace":"prod","name":"shop"}},"drainSeconds":4,
            "allowedTargets":["127.0.0.1"],
            "listen":{{{}}},"limits":{{"workers":1}},
            "mode":{{"member":{{"registry":{{"endpoints":["{}"],"leaseTtlSeconds":60}},{snapshot}
            "placement":{{"rendezvous":{{}}}},"capacityBytes":{}}}}}}}"#,
            listen.join(","),
            self.registry.endpoint(),
            8 << 20
        );
        std::fs::write(&file, text).expect("written");
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_larder-node"))
            .arg("--config")
            .arg(&file)
            .args(["--name", name, "--uid", "a process", "--advertise-host", "127.0.0.1"])
            .args(["--log", "warn"])
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        // The registration of an earlier process outlives it.
        let registered = || async {
            let address = self.grpc_address(name).await;
            address.is_some() && address != before
        };
        self.eventually(Duration::from_secs(20), registered).await;
        let everywhere = || async { self.ring_of(1).await.iter().any(|n| n == name) };
        self.eventually(Duration::from_secs(20), everywhere).await;
        let channel = self.channel_to(self.grpc_address(name).await.expect("registered"));
        Process { child, channel, _folder: folder }
    }

    /// Address of a member in the first one's ring.
    async fn grpc_address(&self, name: &str) -> Option<SocketAddr> {
        let ring = AdminClient::new(self.channel(0)).ring(RingRequest {}).await.expect("a ring");
        let member = ring.into_inner().members.into_iter().find(|member| member.name == name)?;
        Some(member.grpc_address.parse().expect("an address"))
    }

    pub(crate) async fn start_sidecar(&self) -> Running {
        let members = self.members.iter().flatten().map(|m| m.addresses().grpc.to_string());
        let sidecar = self.run(
            "sidecar",
            "uid of the sidecar",
            Mode::Sidecar(SidecarMode {
                members: members.collect(),
                near_cache_bytes: 1 << 20,
                near_cache_ttl_ms: 60_000,
            }),
        );
        eventually(Duration::from_secs(10), || async { sidecar.ready().is_ready() }).await;
        sidecar
    }

    pub(crate) fn addresses(&self, member: usize) -> Addresses {
        self.members[member].as_ref().expect("alive").addresses()
    }

    pub(crate) fn channel_to(&self, address: SocketAddr) -> Channel {
        match &self.tls {
            Some(tls) => tls.channel_to(address),
            None => {
                Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect_lazy()
            }
        }
    }

    pub(crate) fn channel(&self, member: usize) -> Channel {
        self.channels[member].clone()
    }

    pub(crate) fn client(&self, member: usize) -> CacheClient<Channel> {
        CacheClient::new(self.channel(member))
    }

    /// Stops a member without draining it, as in a crash.
    pub(crate) fn crash(&mut self, member: usize) {
        drop(self.take(member));
    }

    pub(crate) fn take(&mut self, member: usize) -> Running {
        self.members[member].take().expect("alive")
    }

    /// Names of the members in one member's ring.
    pub(crate) async fn ring_of(&self, member: usize) -> Vec<String> {
        let answer = AdminClient::new(self.channel(member)).ring(RingRequest {}).await;
        let members = answer.map(|ring| ring.into_inner().members).unwrap_or_default();
        members.into_iter().map(|member| member.name).collect()
    }

    /// Owner of a key in the first member's ring.
    pub(crate) async fn owner(&self, group: &str, key: &str) -> String {
        let cache = self.cache(0);
        let answer = cache.read(group, key.as_bytes()).await.expect("an answer");
        cache.explain(group, key.as_bytes(), &answer).owner
    }

    /// One series of a member's `/metrics`.
    pub(crate) async fn metric(&self, member: usize, series: &str) -> Option<f64> {
        let (_, text) = http_get(self.addresses(member).admin, "/metrics").await;
        let text = String::from_utf8(text).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    pub(crate) async fn put_group(&self, name: &str, url_template: &str, ttl_ms: u64) {
        let contract = GroupContract {
            policy: "Lru".into(),
            origin: OriginContract::Http(HttpOrigin::new(url_template)),
            freshness: Freshness {
                ttl_ms,
                jitter_percent: 0,
                stale_while_revalidate_ms: 0,
                stale_if_error_ms: 0,
                negative_ttl_ms: 0,
                early_refresh_percent: 0,
            },
            origin_limits: OriginLimits::new(4, 1_000),
            guaranteed_bytes: 0,
            generation: 1,
        };
        self.put(self.keys.group(name), serde_json::to_vec(&contract).expect("data")).await;
    }

    pub(crate) fn peer_address(&self, member: usize) -> SocketAddr {
        self.addresses(member).peer.expect("a member")
    }

    pub(crate) fn cache(&self, member: usize) -> &Cache {
        self.members[member].as_ref().expect("alive").cache().expect("a member")
    }

    pub(super) async fn put(&self, key: String, value: Vec<u8>) {
        self.etcd().await.put(key, value, None).await.expect("put");
    }

    pub(crate) async fn delete_group(&self, name: &str) {
        self.etcd().await.delete(self.keys.group(name), None).await.expect("deleted");
    }

    pub(super) async fn etcd(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.registry.endpoint()], None).await.expect("connected")
    }

    /// An origin over HTTP: `/one/K` and `/two/K` answer `one K` and `two K`, `/count/K` counts, and
    /// `/status/N` answers with status N.
    pub(crate) async fn serve_http_origin(&self) -> String {
        use axum::extract::Path;
        use axum::http::StatusCode;
        use axum::routing::get;
        let listener = tokio::net::TcpListener::bind(loopback()).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let count = Arc::new(AtomicUsize::new(0));
        let router = axum::Router::new().route(
            "/{what}/{key}",
            get(move |Path((what, key)): Path<(String, String)>| async move {
                let ok = |body: String| (StatusCode::OK, body);
                match what.as_str() {
                    "count" => ok(format!("count {}", count.fetch_add(1, Ordering::SeqCst))),
                    "status" => (key.parse().expect("a status"), String::new()),
                    what => ok(format!("{what} {key}")),
                }
            }),
        );
        let stopping = self.tasks.stopping().clone();
        self.tasks.spawn("http origin", async move {
            let server = axum::serve(listener, router);
            _ = server.with_graceful_shutdown(async move { stopping.cancelled().await }).await;
        });
        format!("http://{address}")
    }

    pub(crate) async fn reflected_services(&self, member: usize) -> Vec<String> {
        use tonic_reflection::pb::v1::ServerReflectionRequest;
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(self.channel(member));
        let asked = client.server_reflection_info(futures::stream::iter([ask])).await;
        let answer = asked.expect("reflection").into_inner().message().await.expect("an answer");
        match answer.expect("one").message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|service| service.name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Drains the remaining members at the same time, then stops the registry.
    pub(crate) async fn stop(self) {
        let members = self.members.into_iter().flatten();
        futures::future::join_all(members.map(Running::drain)).await;
        _ = self.tasks.stop(Duration::from_secs(1)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the loader of the test blocks its thread")]
fn block_thread() {
    std::thread::sleep(Duration::from_millis(1_500));
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Reads one key.
pub(crate) async fn get(
    mut client: CacheClient<Channel>,
    group: &str,
    key: &str,
) -> Result<GetResponse, Status> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let request = Request::new(GetRequest { group: group.into(), key, explain: false });
    client.get(request).await.map(tonic::Response::into_inner)
}

/// Polls until `holds` returns true. Panics after `limit`.
pub(crate) async fn eventually<F: Future<Output = bool>>(limit: Duration, holds: impl Fn() -> F) {
    assert!(poll(limit, holds).await, "not within {limit:?}");
}

/// Polls until `holds` returns true, or returns false after `limit`.
async fn poll<F: Future<Output = bool>>(limit: Duration, holds: impl Fn() -> F) -> bool {
    let end = Instant::now() + limit;
    while !holds().await {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}
