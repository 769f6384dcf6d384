//! The groups' contracts in the registry, written as the operator writes them on Kubernetes.

use anyhow::Context;
use etcd_client::Client;
use larder_proto::keys::Keys;

use super::plan::{Group, Plan};

pub(super) struct Contracts {
    registry: Client,
    keys: Keys,
}

impl Contracts {
    pub(super) async fn connect(endpoint: &str, plan: &Plan) -> anyhow::Result<Self> {
        let registry = Client::connect([endpoint], None).await.context("registry not reached")?;
        let cluster = &plan.config.cluster;
        Ok(Self { registry, keys: Keys::new(&cluster.namespace, &cluster.name) })
    }

    pub(super) async fn put<'g>(
        &mut self,
        groups: impl IntoIterator<Item = &'g Group>,
    ) -> anyhow::Result<()> {
        for group in groups {
            let text = serde_json::to_string(&group.contract)?;
            self.registry
                .put(self.keys.group(&group.name), text, None)
                .await
                .with_context(|| format!("contract of group {} not written", group.name))?;
        }
        Ok(())
    }

    pub(super) async fn delete<'g>(
        &mut self,
        groups: impl IntoIterator<Item = &'g Group>,
    ) -> anyhow::Result<()> {
        for group in groups {
            self.registry
                .delete(self.keys.group(&group.name), None)
                .await
                .with_context(|| format!("contract of group {} not deleted", group.name))?;
        }
        Ok(())
    }
}
