//! Owns the check of references from one document of a file to another.

use super::document::{Document, SourceDocument};
use super::problem::Problem;
use super::schema;
use super::yaml::Node;

/// CacheGroups whose `clusterRef` names no CacheCluster of the file. Groups alone are no problem:
/// their clusters are applied elsewhere.
pub(super) fn dangling(nodes: &[Node], documents: &[Document]) -> Vec<Problem> {
    let clusters: Vec<&str> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Cluster(cluster) => cluster.metadata.name.as_deref(),
            Document::Group(_) | Document::Other { .. } => None,
        })
        .collect();
    if clusters.is_empty() {
        return Vec::new();
    }
    let problem = |(node, document): (&Node, &Document)| {
        let Document::Group(group) = document else { return None };
        let wanted = group.spec.cluster_ref.name.as_str();
        if clusters.contains(&wanted) {
            return None;
        }
        let name = group.metadata.name.as_deref().unwrap_or_default();
        let source = SourceDocument { node, object: format!("CacheGroup {name:?}") };
        let hint = schema::did_you_mean(wanted, clusters.iter().copied());
        let message = format!("no CacheCluster {wanted:?} in this file{hint}");
        Some(source.problem("/spec/clusterRef/name", message))
    };
    nodes.iter().zip(documents).filter_map(problem).collect()
}
