//! The running cluster: what a plan becomes, and what an edited plan changes in it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use larder_registry::{EmbeddedRegistry, RegistryOptions};
use larder_runtime::tasks::Tasks;
use tokio::runtime::Handle;

use super::contracts::Contracts;
use super::databases::{Databases, Urls};
use super::members::Members;
use super::plan::{Group, Plan};
use super::ports;
use crate::exit::BadConfiguration;
use crate::text::plural;

/// The registry's tasks end at once when asked to.
const REGISTRY_GRACE: Duration = Duration::from_secs(2);

pub(super) struct Cluster {
    pub(super) plan: Plan,
    pub(super) databases: Databases,
    pub(super) members: Members,
    /// The registry's endpoint.
    pub(super) registry: String,
    contracts: Contracts,
    registry_tasks: Tasks,
}

impl Cluster {
    /// Starts everything and waits until the members serve.
    ///
    /// # Errors
    /// A port in use, a database that cannot be read, a member that does not start.
    pub(super) async fn start(plan: Plan, urls: &Urls, port_base: u16) -> anyhow::Result<Self> {
        let listen = ports::choose(port_base, 0..plan.members)?;
        let databases = Databases::prepare(&plan, urls, &[]).await?;
        let registry_tasks = Tasks::new(Handle::current());
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = larder_runtime::net::listen(free, false).context("no port is free")?;
        let registry =
            EmbeddedRegistry::start(listener, RegistryOptions::default(), &registry_tasks)?;
        let registry = registry.endpoint();
        let mut contracts = Contracts::connect(&registry, &plan).await?;
        contracts.put(&plan.groups).await?;
        let mut members = Members::new(registry.clone(), databases.directory().to_owned());
        members.add(&plan, listen).await?;
        members.wait_until_joined(&plan).await?;
        Ok(Self { plan, databases, members, registry, contracts, registry_tasks })
    }

    /// Makes the running cluster what `next` says, and returns what changed, a line each.
    ///
    /// # Errors
    /// An edit that cannot be applied. What can be found wrong is found before anything changes.
    pub(super) async fn apply(
        &mut self,
        next: Plan,
        urls: &Urls,
        port_base: u16,
    ) -> anyhow::Result<Vec<String>> {
        if next.cluster != self.plan.cluster || next.config.cluster != self.plan.config.cluster {
            let text = "the name of the CacheCluster cannot change while it runs; start again";
            return Err(BadConfiguration(text.into()).into());
        }
        let had = self.plan.members;
        let listen = ports::choose(port_base, had..next.members.max(had))?;
        let databases = Databases::prepare(&next, urls, &self.plan.groups).await?;
        let changes = changes(&self.plan, &next);

        self.databases.replace(databases)?;
        self.contracts.put(next.groups.iter().filter(|g| !self.plan.groups.contains(g))).await?;
        let named = |group: &Group| next.groups.iter().any(|g| g.name == group.name);
        self.contracts.delete(self.plan.groups.iter().filter(|g| !named(g))).await?;
        self.members.keep(next.members).await;
        if next.config != self.plan.config {
            self.members.restart(&next).await?;
        }
        self.members.add(&next, listen).await?;
        self.members.wait_until_joined(&next).await?;
        self.plan = next;
        Ok(changes)
    }

    /// Stops in order: requests in flight are finished first.
    pub(super) async fn drain(mut self) {
        self.members.keep(0).await;
        // No member needs the registry any more.
        _ = self.registry_tasks.stop(REGISTRY_GRACE).await;
    }
}

fn changes(old: &Plan, new: &Plan) -> Vec<String> {
    let has = |plan: &Plan, name: &str| plan.groups.iter().any(|g| g.name == name);
    let mut lines = Vec::new();
    for group in &new.groups {
        let is = if !has(old, &group.name) {
            "added"
        } else if !old.groups.contains(group) {
            "changed"
        } else {
            continue;
        };
        lines.push(format!("group {} {is}", group.name));
    }
    let gone = old.groups.iter().filter(|group| !has(new, &group.name));
    lines.extend(gone.map(|group| format!("group {} removed", group.name)));
    if old.config != new.config {
        let kept = plural(old.members.min(new.members), "member");
        lines.push(format!("{kept} restarted, one after another, with an empty cache"));
    }
    if old.members != new.members {
        lines.push(format!("{} in place of {}", plural(new.members, "member"), old.members));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: larder.dev/v1alpha1
kind: CacheCluster
metadata: {name: shop}
spec: {members: 3, memory: 512Mi}
---
apiVersion: larder.dev/v1alpha1
kind: CacheGroup
metadata: {name: a}
spec: {clusterRef: {name: shop}, origin: {http: {urlTemplate: 'http://o/{key}'}}}
";

    fn plan(text: &str) -> Plan {
        Plan::read("my.yaml", text, None).expect("valid")
    }

    #[test]
    fn each_kind_of_change_is_one_line() {
        let old = plan(FILE);
        let none: [&str; 0] = [];
        assert_eq!(changes(&old, &plan(&format!("# a comment\n{FILE}"))), none);
        let edited = FILE.replace("members: 3", "members: 2").replace("512Mi", "1Gi");
        assert_eq!(
            changes(&old, &plan(&edited)),
            [
                "2 members restarted, one after another, with an empty cache",
                "2 members in place of 3"
            ]
        );
        let edited = FILE.replace("http://o", "http://p");
        assert_eq!(changes(&old, &plan(&edited)), ["group a changed"]);
        let edited = FILE.replace("{name: a}", "{name: b}");
        assert_eq!(changes(&old, &plan(&edited)), ["group b added", "group a removed"]);
    }
}
