//! Owns the reader of users' YAML: one or more documents, checked as an API server checks them, so
//! that `larder up` and `larder check` need no server. It changes a document only by adding
//! defaults.
//!
//! The order is the API server's: unknown fields and the schema, then defaults, then CEL rules. It
//! is stricter in one way: it always refuses unknown fields.

mod document;
mod problem;
mod references;
mod schema;
mod yaml;

use kube::Resource;
use kube::core::cel::{Validator, apply_defaults};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::document::Document;
use self::document::SourceDocument;
pub use self::problem::Problem;
use self::yaml::Node;
use super::CacheCluster;

/// Reads and checks every document of a YAML text, and that each CacheGroup's cluster is among
/// them, unless the text holds no CacheCluster at all.
///
/// # Errors
/// Every problem, in the order of the text; never an empty list.
pub fn read_documents(text: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let nodes = yaml::documents(text).map_err(|problem| vec![problem])?;
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for node in &nodes {
        match read(node) {
            Ok(document) => documents.push(document),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        problems = references::dangling(&nodes, &documents);
    }
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

fn read(node: &Node) -> Result<Document, Vec<Problem>> {
    let value = node.to_value();
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let object = if kind.is_empty() { String::new() } else { format!("{kind} {name:?}") };
    let source = SourceDocument { node, object };
    if api_version.is_empty() || kind.is_empty() {
        return Err(vec![source.problem("", "apiVersion and kind are required")]);
    }
    let own_version = CacheCluster::api_version(&());
    if api_version.split('/').next() != own_version.split('/').next() {
        return Ok(Document::Other {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
        });
    }
    if api_version != own_version {
        let message = format!("unknown version {api_version:?}, must be {own_version}");
        return Err(vec![source.problem("/apiVersion", message)]);
    }
    match kind {
        "CacheCluster" => Ok(Document::Cluster(Box::new(check(&source, kind, &value)?))),
        "CacheGroup" => Ok(Document::Group(Box::new(check(&source, kind, &value)?))),
        _ => {
            let hint = schema::did_you_mean(kind, ["CacheCluster", "CacheGroup"]);
            Err(vec![source.problem("/kind", format!("unknown kind{hint}"))])
        }
    }
}

fn check<T: DeserializeOwned>(
    source: &SourceDocument<'_>,
    kind: &str,
    value: &Value,
) -> Result<T, Vec<Problem>> {
    let schema = crate::crd::schema(kind).expect("both kinds have a schema");
    let found = schema::problems(&schema, value);
    if !found.is_empty() {
        return Err(found.into_iter().map(|(at, message)| source.problem(&at, message)).collect());
    }
    let value = apply_defaults(&schema, value);
    if let Err(errors) = Validator::new().validate(&schema, &value, None) {
        let problem = |error: &kube::core::cel::ValidationError| {
            source.problem(&schema::pointer(&error.field_path), error.message.clone())
        };
        return Err(errors.as_slice().iter().map(problem).collect());
    }
    serde_json::from_value(value).map_err(|error| vec![source.problem("", error.to_string())])
}

#[cfg(test)]
mod tests;
