//! A member: the built program in a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use larder_proto::config::{
    ClusterRef, Limits, Listen, MemberMode, Mode, NodeConfig, Placement, RegistryConfig,
};
use larder_proto::v1::cache_client::CacheClient;
use tonic::transport::{Channel, Endpoint};

use super::process::Process;
use super::proxy::Proxy;
use super::shared::{CLUSTER, NAMESPACE, until};
use super::watch::{Watch, status};

const START_LIMIT: Duration = Duration::from_secs(20);
/// Beyond what any test fills.
const CAPACITY_BYTES: u64 = 16 << 20;

pub(super) struct Member {
    pub(super) name: String,
    pub(super) grpc: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) process: Process,
    pub(super) watch: Watch,
    /// Its ways to the etcd members.
    pub(super) proxies: Vec<Proxy>,
    channel: Channel,
    _folder: tempfile::TempDir,
}

impl Member {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(index: usize, lease_ttl: Duration, proxies: Vec<Proxy>) -> Self {
        let name = format!("shop-{index}");
        let folder = tempfile::tempdir().expect("a folder");
        let (file, log) = (folder.path().join("node.json"), folder.path().join("log"));
        let config = serde_json::to_vec(&config(lease_ttl, &proxies)).expect("data");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder-node"));
        command
            .arg("--config")
            .arg(&file)
            .args(["--name", &name, "--uid", &format!("uid of {name}")])
            .args(["--advertise-host", "127.0.0.1", "--log-format", "json"]);
        let process = Process::start(&mut command, &log);
        let started = || async { addresses(&log).is_some() };
        until(START_LIMIT, "a member starts", started).await;
        let (grpc, admin) = addresses(&log).expect("just found");
        let ready = || async { status(admin, "/readyz").await == Some(200) };
        until(START_LIMIT, "a member is ready", ready).await;
        let channel = Endpoint::from_shared(format!("http://{grpc}")).expect("a URL");
        let (watch, channel) = (Watch::start(admin), channel.connect_lazy());
        Self { name, grpc, admin, process, watch, proxies, channel, _folder: folder }
    }

    /// A stock client.
    pub(super) fn client(&self) -> CacheClient<Channel> {
        CacheClient::new(self.channel.clone())
    }

    pub(super) fn freeze(&self) {
        self.watch.pause();
        self.process.freeze();
    }

    pub(super) fn thaw(&self) {
        self.process.thaw();
        self.watch.resume();
    }

    pub(super) fn kill(&mut self) {
        self.watch.pause();
        self.process.kill();
    }
}

fn config(lease_ttl: Duration, proxies: &[Proxy]) -> NodeConfig {
    let free = || "127.0.0.1:0".to_owned();
    NodeConfig {
        cluster: ClusterRef { namespace: NAMESPACE.into(), name: CLUSTER.into() },
        mode: Mode::Member(MemberMode {
            registry: RegistryConfig {
                endpoints: proxies
                    .iter()
                    .map(|proxy| format!("http://{}", proxy.address))
                    .collect(),
                tls_directory: None,
                lease_ttl_seconds: lease_ttl.as_secs(),
            },
            placement: Placement::Rendezvous {},
            capacity_bytes: CAPACITY_BYTES,
            memory_bytes: None,
            replica_percent: 12,
            // Copies would hide whether the owner answers.
            hot_percent: 0,
            hot_ttl_ms: 0,
            snapshot: None,
        }),
        listen: Listen { grpc: free(), peer: free(), http: free(), admin: free() },
        limits: Limits { workers: 1, ..Limits::default() },
        credentials_directory: String::new(),
        allowed_targets: vec!["127.0.0.0/8".into()],
        tls: None,
        drain_seconds: 4,
    }
}

/// The ports that a member logs when it has started.
fn addresses(log: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("\"message\":\"started\""))?;
    let fields: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| fields[name].as_str()?.parse().ok();
    Some((address("grpc")?, address("admin")?))
}
