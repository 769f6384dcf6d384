//! A registry to test against: the embedded one, or a real etcd in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use larder_registry::{EmbeddedRegistry, RegistryOptions};
use larder_runtime::tasks::Tasks;

use super::{PATIENCE, service};

/// The embedded registry or an etcd.
pub(super) enum Backend {
    Embedded(EmbeddedRegistry),
    Etcd(Etcd),
}

/// A real etcd on loopback, killed on drop.
pub(super) struct Etcd {
    binary: String,
    client_port: u16,
    peer_port: u16,
    folder: tempfile::TempDir,
    process: Child,
}

impl Backend {
    pub(super) fn embedded() -> Self {
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = larder_runtime::net::listen(loopback, false).expect("a free port");
        let options = RegistryOptions::default();
        Self::Embedded(EmbeddedRegistry::start(listener, options, &tasks).expect("a tokio runtime"))
    }

    /// `None` if no etcd is configured.
    pub(super) async fn etcd() -> Option<Self> {
        Etcd::start().await.map(Self::Etcd)
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Embedded(running) => running.address(),
            Self::Etcd(etcd) => SocketAddr::from(([127, 0, 0, 1], etcd.client_port)),
        }
    }

    pub(super) async fn client(&self) -> Client {
        connect(self.address()).await.expect("the registry is up")
    }

    /// Kills it and restarts it with its data. The embedded registry, which has no disk, only ends
    /// its streams.
    pub(super) async fn restart(&mut self) {
        match self {
            Self::Embedded(running) => running.faults().drop_streams(),
            Self::Etcd(etcd) => {
                etcd.stop();
                etcd.process = etcd.spawn();
                etcd.ready().await;
            }
        }
    }

    /// Restarts it without its data, as when the operator rebuilds a dead etcd.
    pub(super) async fn rebuild(&mut self) {
        match self {
            Self::Embedded(running) => running.faults().lose_all_data(),
            Self::Etcd(etcd) => {
                etcd.stop();
                etcd.folder = tempfile::tempdir().expect("a folder");
                etcd.process = etcd.spawn();
                etcd.ready().await;
            }
        }
    }
}

impl Etcd {
    /// `None` if no etcd is configured.
    pub(super) async fn start() -> Option<Self> {
        let binary = service("LARDER_ETCD")?;
        let folder = tempfile::tempdir().expect("a folder");
        let (client_port, peer_port) = (free_port(), free_port());
        let process = spawn(&binary, client_port, peer_port, folder.path());
        let etcd = Self { binary, client_port, peer_port, folder, process };
        etcd.ready().await;
        Some(etcd)
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn spawn(&self) -> Child {
        spawn(&self.binary, self.client_port, self.peer_port, self.folder.path())
    }

    fn stop(&mut self) {
        // Killed: nothing may depend on a clean shutdown.
        self.process.kill().expect("a child process");
        self.process.wait().expect("a child process");
    }

    async fn ready(&self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.client_port));
        let ask = async {
            loop {
                if let Ok(mut client) = connect(address).await
                    && client.get("ready?", None).await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.expect("etcd starts");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn connect(address: SocketAddr) -> Result<Client, etcd_client::Error> {
    let second = Duration::from_secs(1);
    let options = ConnectOptions::new().with_connect_timeout(second).with_timeout(5 * second);
    Client::connect([format!("http://{address}")], Some(options)).await
}

fn spawn(binary: &str, client_port: u16, peer_port: u16, folder: &std::path::Path) -> Child {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    Command::new(binary)
        .arg("--data-dir")
        .arg(folder)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("LARDER_ETCD is the path of an etcd")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}
