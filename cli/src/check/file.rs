//! A file of resources, checked as an API server would check it.

use std::path::Path;

use larder_operator::api::{Document, read_documents};

use super::finding::Finding;
use crate::input;

/// One finding a document, or one a problem.
pub(super) fn check(path: &Path) -> anyhow::Result<Vec<Finding>> {
    let (file, text) = input::read(path)?;
    Ok(match read_documents(&text) {
        Ok(documents) if documents.is_empty() => {
            let detail = format!("{file} holds no resource");
            vec![Finding::fail("documents", detail, "is it the right file?")]
        }
        Ok(documents) => documents.iter().map(finding).collect(),
        Err(problems) => problems
            .iter()
            .map(|problem| Finding::fail("schema-and-rules", problem.in_file(&file), ""))
            .collect(),
    })
}

fn finding(document: &Document) -> Finding {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    match document {
        Document::Cluster(cluster) => Finding::ok(
            format!("CacheCluster {}", name(&cluster.metadata.name)),
            format!("{} members of {}", cluster.spec.members, cluster.spec.memory.0),
        ),
        Document::Group(group) => Finding::ok(
            format!("CacheGroup {}", name(&group.metadata.name)),
            format!("served by CacheCluster {}", group.spec.cluster_ref.name),
        ),
        Document::Other { api_version, kind, name } => Finding::warn(
            format!("{kind} {name}"),
            format!("{api_version} is not an API of Larder"),
            "it was not checked",
        ),
    }
}
