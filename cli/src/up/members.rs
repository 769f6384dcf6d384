//! The members: the operator's configuration with addresses of this machine, one [`App`] each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use larder_client::{Client, Retry};
use larder_node::app::{App, Options, Running};
use larder_node::config::{Config, Identity};
use larder_proto::config::{Listen, Mode, NodeConfig};
use tokio::time::{Instant, sleep};

use super::plan::Plan;
use crate::exit::BadConfiguration;

/// Members register, see each other and learn the groups in well under a second.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const JOIN_POLL: Duration = Duration::from_millis(50);
/// Time that requests in flight are given when the user stops; a second Ctrl-C does not wait.
const DRAIN_SECONDS: u64 = 5;

/// Where one member listens.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    pub(super) name: String,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

pub(super) struct Members {
    members: Vec<Member>,
    /// The registry's endpoint.
    registry: String,
    /// Folder of the credentials.
    credentials: PathBuf,
    /// Members started so far: part of each one's uid, which distinguishes a successor from its
    /// predecessor of the same name.
    started: u32,
}

struct Member {
    running: Running,
    addresses: Addresses,
    /// Where it listens, free ports resolved, so that its successor listens there too.
    listen: Listen,
}

impl Members {
    pub(super) fn new(registry: String, credentials: PathBuf) -> Self {
        Self { members: Vec::new(), registry, credentials, started: 0 }
    }

    /// Starts one more member for each entry of `listen`.
    ///
    /// # Errors
    /// An invalid configuration, or a port taken since it was chosen; no member was added then.
    pub(super) async fn add(&mut self, plan: &Plan, listen: Vec<Listen>) -> anyhow::Result<()> {
        let before = self.members.len();
        for listen in listen {
            let started = self.config(plan, self.members.len(), listen);
            match started.and_then(|config| self.start(config)) {
                Ok(member) => self.members.push(member),
                Err(error) => {
                    self.keep(before).await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Stops all but the first `count` members.
    pub(super) async fn keep(&mut self, count: usize) {
        let leaving = self.members.split_off(count.min(self.members.len()));
        join_all(leaving.into_iter().map(|member| member.running.drain())).await;
    }

    /// Starts each member again with the configuration of `plan`, one after another. Their caches
    /// start empty.
    ///
    /// # Errors
    /// An invalid configuration, found before the first member stops; a member that does not start
    /// again, after which the others run on.
    pub(super) async fn restart(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for ordinal in 0..self.members.len() {
            self.config(plan, ordinal, self.members[ordinal].listen.clone())?;
        }
        for ordinal in 0..self.members.len() {
            let old = self.members.remove(ordinal);
            let config = self.config(plan, ordinal, old.listen)?;
            old.running.drain().await;
            let new = self.start(config)?;
            self.members.insert(ordinal, new);
            self.wait_until_joined(plan).await?;
        }
        Ok(())
    }

    pub(super) fn addresses(&self) -> impl ExactSizeIterator<Item = &Addresses> {
        self.members.iter().map(|member| &member.addresses)
    }

    /// A client that asks the members for their state.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let members = self.addresses().map(|m| m.grpc.to_string());
        let builder = Client::builder().members(members).follow_ring(false);
        Ok(builder.timeout(Duration::from_secs(2)).retry(Retry::never()).build()?)
    }

    /// Waits until every member sees all the others and every group of `plan`.
    ///
    /// # Errors
    /// That takes too long.
    pub(super) async fn wait_until_joined(&self, plan: &Plan) -> anyhow::Result<()> {
        let client = self.client()?;
        let wanted = self.members.len();
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            let states = client.status().await?;
            let joined = states.iter().filter_map(|m| m.answer.as_ref().ok()).filter(|s| {
                let has = |name: &str| s.groups.iter().any(|g| g.name == name);
                usize::try_from(s.ring_members).is_ok_and(|seen| seen == wanted)
                    && plan.groups.iter().all(|g| has(&g.name))
            });
            let joined = joined.count();
            if joined == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{joined} of {wanted} members joined within {} s", JOIN_TIMEOUT.as_secs());
            }
            sleep(JOIN_POLL).await;
        }
    }

    /// The operator's file with what differs on one machine: addresses, the registry, one serving
    /// thread a member, the folder of credentials.
    fn config(&self, plan: &Plan, ordinal: usize, listen: Listen) -> anyhow::Result<Config> {
        let name = format!("{}-{ordinal}", plan.cluster);
        let mut file: NodeConfig = plan.config.clone();
        if let Mode::Member(member) = &mut file.mode {
            member.registry.endpoints = vec![self.registry.clone()];
            member.registry.tls_directory = None;
            // The limit of this process is not that of a member's container.
            member.memory_bytes = None;
        }
        // Everything listens on loopback, and there is no authority.
        file.tls = None;
        file.listen = listen;
        file.limits.workers = 1;
        // The origins of a person who tries things out run on the same machine.
        file.allowed_targets.extend(["127.0.0.0/8".into(), "::1/128".into()]);
        file.credentials_directory = self.credentials.display().to_string();
        file.drain_seconds = DRAIN_SECONDS;
        let identity = Identity {
            uid: format!("{name}-{}-{}", std::process::id(), self.started),
            name,
            advertise_host: "127.0.0.1".into(),
            zone: None,
        };
        Ok(Config::new(file, identity).map_err(|e| BadConfiguration(e.to_string()))?)
    }

    fn start(&mut self, config: Config) -> anyhow::Result<Member> {
        let name = config.identity.name.clone();
        let running = App::build(config, Options::default())
            .and_then(App::spawn)
            .with_context(|| format!("member {name} did not start"))?;
        self.started += 1;
        let at = running.addresses();
        let (http, peer) = (at.http.context("no gateway")?, at.peer.context("no peer port")?);
        let listen = Listen {
            grpc: at.grpc.to_string(),
            peer: peer.to_string(),
            http: http.to_string(),
            admin: at.admin.to_string(),
        };
        let addresses = Addresses { name, grpc: at.grpc, http, admin: at.admin };
        Ok(Member { running, addresses, listen })
    }
}
