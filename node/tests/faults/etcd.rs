//! A real etcd cluster of three members on loopback.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions};
use larder_proto::keys::Keys;

use super::process::Process;
use super::proxy::Proxy;
use super::service::service;
use super::shared::until;

const MEMBERS: usize = 3;
/// Time for an election and for a start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Etcd {
    binary: String,
    folder: tempfile::TempDir,
    /// Client and peer port of each member.
    ports: Vec<(u16, u16)>,
    /// `None` while the member is killed.
    processes: Vec<Option<Process>>,
}

impl Etcd {
    /// `None` if no etcd is configured.
    pub(super) async fn start() -> Option<Self> {
        let binary = service("LARDER_ETCD")?;
        let folder = tempfile::tempdir().expect("a folder");
        let ports = (0..MEMBERS).map(|_| (free_port(), free_port())).collect();
        let mut etcd = Self { binary, folder, ports, processes: Vec::new() };
        etcd.processes = (0..MEMBERS).map(|member| Some(etcd.spawn(member))).collect();
        etcd.serving().await;
        Some(etcd)
    }

    /// A proxy in front of each etcd member.
    pub(super) async fn proxies(&self) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for member in 0..MEMBERS {
            proxies.push(Proxy::to(self.address(member)).await);
        }
        proxies
    }

    pub(super) fn freeze_all(&self) {
        self.processes.iter().flatten().for_each(Process::freeze);
    }

    pub(super) fn thaw_all(&self) {
        self.processes.iter().flatten().for_each(Process::thaw);
    }

    pub(super) fn kill(&mut self, member: usize) {
        drop(self.processes[member].take().expect("running"));
    }

    pub(super) fn kill_all(&mut self) {
        (0..MEMBERS).for_each(|member| self.kill(member));
    }

    /// Starts the killed members again, with their data.
    pub(super) fn restart_killed(&mut self) {
        for member in 0..MEMBERS {
            if self.processes[member].is_none() {
                self.processes[member] = Some(self.spawn(member));
            }
        }
    }

    /// Waits until every member answers linearizable reads.
    pub(super) async fn serving(&self) {
        for member in 0..MEMBERS {
            until(PATIENCE, "etcd serves", || async {
                let Ok(mut client) = connect(self.address(member)).await else { return false };
                client.get("serving?", None).await.is_ok()
            })
            .await;
        }
    }

    /// The leader's index, once all running members have one.
    pub(super) async fn leader(&self) -> usize {
        for _ in 0..PATIENCE.as_millis() / 50 {
            for member in (0..MEMBERS).filter(|member| self.processes[*member].is_some()) {
                let Ok(mut client) = connect(self.address(member)).await else { continue };
                let Ok(status) = client.status().await else { continue };
                let own = status.header().map(etcd_client::ResponseHeader::member_id);
                if own == Some(status.leader()) {
                    return member;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd elects no leader");
    }

    /// A client of a running member.
    pub(super) async fn client(&self) -> Client {
        let running = self.processes.iter().position(Option::is_some).expect("one runs");
        connect(self.address(running)).await.expect("etcd runs")
    }

    /// Key and lease of each registered member.
    pub(super) async fn registrations(&self, keys: &Keys) -> Vec<(String, i64)> {
        let options = Some(GetOptions::new().with_prefix());
        let Ok(got) = self.client().await.get(keys.members(), options).await else {
            return Vec::new();
        };
        let entry = |kv: &etcd_client::KeyValue| (kv.key_str().expect("text").into(), kv.lease());
        got.kvs().iter().map(entry).collect()
    }

    fn address(&self, member: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[member].0))
    }

    fn spawn(&self, member: usize) -> Process {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let named = |(member, ports): (usize, &(u16, u16))| format!("e{member}={}", url(ports.1));
        let cluster: Vec<String> = self.ports.iter().enumerate().map(named).collect();
        let (client, peer) = (url(self.ports[member].0), url(self.ports[member].1));
        let name = format!("e{member}");
        let mut command = Command::new(&self.binary);
        command
            .arg("--data-dir")
            .arg(self.folder.path().join(&name))
            .args(["--name", &name, "--log-level", "warn"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(","), "--unsafe-no-fsync"]);
        Process::start(&mut command, &self.folder.path().join(name + ".log"))
    }
}

async fn connect(address: SocketAddr) -> Result<Client, etcd_client::Error> {
    let second = Duration::from_secs(1);
    let options = ConnectOptions::new().with_connect_timeout(second).with_timeout(second);
    Client::connect([format!("http://{address}")], Some(options)).await
}

/// A port below those that the system gives to connections, so that none takes it while etcd is
/// killed.
fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        // Programs that run at the same time begin at different ports.
        let port = FIRST + std::process::id().wrapping_mul(100).wrapping_add(next) % COUNT;
        let port = u16::try_from(port).expect("below 30,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
