//! The members: the operator's configuration with our addresses, one [`App`] each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use larder_client::{Client, Retry};
use larder_node::app::{App, Options, Running};
use larder_node::config::{Config, Identity};
use larder_proto::config::{Listen, Mode, NodeConfig};
use tokio::time::{Instant, sleep};

use super::plan::Plan;
use super::words::Addresses;
use crate::exit::BadConfiguration;

/// Members register, see each other and learn the groups in well under a second.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const JOIN_POLL: Duration = Duration::from_millis(50);
/// Requests in flight get so long when the user stops; a second Ctrl-C does not wait.
const DRAIN_SECONDS: u64 = 5;

pub(super) struct Members {
    running: Vec<Running>,
    addresses: Vec<Addresses>,
}

impl Members {
    /// Starts one member for each entry of `listen`.
    ///
    /// # Errors
    /// A configuration that cannot be, or a port taken in between.
    pub(super) async fn start(
        plan: &Plan,
        listen: Vec<Listen>,
        registry: &str,
        credentials: &Path,
    ) -> anyhow::Result<Self> {
        let mut members = Self { running: Vec::new(), addresses: Vec::new() };
        for (ordinal, listen) in listen.into_iter().enumerate() {
            let name = format!("{}-{ordinal}", plan.cluster);
            let file = local(plan.config.clone(), listen, registry, credentials);
            let identity = Identity {
                name: name.clone(),
                uid: format!("{name}-{}", std::process::id()),
                advertise_host: "127.0.0.1".into(),
                zone: None,
            };
            let config =
                Config::new(file, identity).map_err(|e| BadConfiguration(e.to_string()))?;
            match App::build(config, Options::default()).and_then(App::spawn) {
                Ok(running) => {
                    let at = running.addresses();
                    let http = at.http.context("a member has a gateway")?;
                    let (grpc, admin) = (at.grpc, at.admin);
                    members.addresses.push(Addresses { name, grpc, http, admin });
                    members.running.push(running);
                }
                Err(error) => {
                    members.drain().await;
                    return Err(error.context(format!("member {name} did not start")));
                }
            }
        }
        Ok(members)
    }

    pub(super) fn addresses(&self) -> &[Addresses] {
        &self.addresses
    }

    /// A client that asks the members for their state.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let members = self.addresses.iter().map(|m| m.grpc.to_string());
        let builder = Client::builder().members(members).follow_ring(false);
        Ok(builder.timeout(Duration::from_secs(2)).retry(Retry::never()).build()?)
    }

    /// Waits until every member sees all the others and every group.
    ///
    /// # Errors
    /// When that takes too long.
    pub(super) async fn wait_until_joined(
        &self,
        client: &Client,
        plan: &Plan,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + JOIN_LIMIT;
        loop {
            let told = client.status().await?;
            let wanted = u32::try_from(self.running.len()).context("few members")?;
            let joined = told.iter().filter_map(|m| m.answer.as_ref().ok()).filter(|s| {
                let has = |name: &str| s.groups.iter().any(|g| g.name == name);
                s.ring_members == wanted && plan.groups.iter().all(|g| has(&g.name))
            });
            let joined = joined.count();
            if joined == self.running.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{joined} of {wanted} members joined within {} s", JOIN_LIMIT.as_secs());
            }
            sleep(JOIN_POLL).await;
        }
    }

    /// Stops all of them: new work refused, work in flight finished.
    pub(super) async fn drain(self) {
        join_all(self.running.into_iter().map(Running::drain)).await;
    }
}

/// The operator's file with what differs on one machine: addresses, the registry, one serving
/// thread a member, credentials in our folder.
fn local(mut file: NodeConfig, listen: Listen, registry: &str, credentials: &Path) -> NodeConfig {
    if let Mode::Member(member) = &mut file.mode {
        member.registry.endpoints = vec![registry.into()];
        member.registry.tls_directory = None;
    }
    file.listen = listen;
    file.limits.workers = 1;
    file.credentials_directory = credentials.display().to_string();
    file.drain_seconds = DRAIN_SECONDS;
    file
}
