//! Writes the groups' contracts to the registry, as the operator does on Kubernetes.

use anyhow::Context;
use etcd_client::Client;
use larder_proto::keys::Keys;

use super::plan::Plan;

pub(super) async fn write(endpoint: &str, plan: &Plan) -> anyhow::Result<()> {
    let mut registry = Client::connect([endpoint], None).await.context("registry not reached")?;
    let keys = Keys::new(&plan.config.cluster.namespace, &plan.config.cluster.name);
    for group in &plan.groups {
        let text = serde_json::to_string(&group.contract)?;
        registry
            .put(keys.group(&group.name), text, None)
            .await
            .with_context(|| format!("contract of group {} not written", group.name))?;
    }
    Ok(())
}
