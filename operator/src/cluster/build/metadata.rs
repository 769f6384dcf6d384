//! Owns the metadata that every child object has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::labels::{self, Component};
use crate::cluster::validate::Cluster;

/// Name, namespace, labels and owner of a child.
pub(super) fn metadata(cluster: &Cluster, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels::labels(&cluster.name, component)),
        owner_references: cluster.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}
