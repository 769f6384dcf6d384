//! Owns reading what users write: YAML with one or more documents, checked here as an API server
//! would check it, so that `larder up` and `larder check` need none. It never changes a document
//! but for defaults.
//!
//! The order is the API server's: unknown fields and the schema, then defaults, then CEL rules. It
//! is stricter in one way: an unknown field is always refused.

mod references;
mod schema;
mod yaml;

use std::fmt;

use kube::core::cel::{Validator, apply_defaults};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::yaml::Node;
use super::{CacheCluster, CacheGroup, GROUP, VERSION};

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A CacheCluster that passed every check, defaults filled in.
    Cluster(Box<CacheCluster>),
    /// A CacheGroup that passed every check, defaults filled in.
    Group(Box<CacheGroup>),
    /// An object of another API, unchecked.
    Other {
        /// Its `apiVersion`.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its name, empty when it has none.
        name: String,
    },
}

/// One thing that is wrong with a file, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1, where known.
    pub line: Option<u64>,
    /// The object, such as `CacheCluster "shop"`; empty for a file that is no YAML.
    pub object: String,
    /// Path of the field, such as `spec.memory`; empty for the whole object.
    pub field: String,
    /// What is wrong, lower case, no full stop.
    pub message: String,
}

impl Problem {
    /// The line to print, with the file's name in front.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        match self.line {
            Some(line) => format!("{file}:{line}: {self}"),
            None => format!("{file}: {self}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// Reads and checks every document of a YAML text, and that each CacheGroup's cluster is among
/// them, unless the text holds no CacheCluster at all.
///
/// # Errors
/// Everything that is wrong, in the order of the text; never an empty list.
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
    let context = Context { node, object };
    if api_version.is_empty() || kind.is_empty() {
        return Err(vec![context.problem("", "apiVersion and kind are required")]);
    }
    let Some(version) = api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/'))
    else {
        return Ok(Document::Other {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
        });
    };
    if version != VERSION {
        let message = format!("unknown version {api_version:?}, known is {GROUP}/{VERSION}");
        return Err(vec![context.problem("/apiVersion", message)]);
    }
    match kind {
        "CacheCluster" => Ok(Document::Cluster(Box::new(check(&context, kind, &value)?))),
        "CacheGroup" => Ok(Document::Group(Box::new(check(&context, kind, &value)?))),
        _ => {
            let hint = schema::did_you_mean(kind, ["CacheCluster", "CacheGroup"]);
            Err(vec![context.problem("/kind", format!("unknown kind{hint}"))])
        }
    }
}

/// A document, for the problems found in it.
struct Context<'n> {
    node: &'n Node,
    object: String,
}

impl Context<'_> {
    /// A problem at a JSON pointer.
    fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem {
            line: self.node.line(pointer),
            object: self.object.clone(),
            field: schema::dotted(pointer),
            message: message.into(),
        }
    }
}

fn check<T: DeserializeOwned>(
    context: &Context<'_>,
    kind: &str,
    value: &Value,
) -> Result<T, Vec<Problem>> {
    let schema = crate::crd::schema(kind).expect("both kinds have a schema");
    let found = schema::problems(&schema, value);
    if !found.is_empty() {
        return Err(found.into_iter().map(|(at, said)| context.problem(&at, said)).collect());
    }
    let value = apply_defaults(&schema, value);
    if let Err(errors) = Validator::new().validate(&schema, &value, None) {
        let problem = |error: &kube::core::cel::ValidationError| {
            context.problem(&schema::pointer(&error.field_path), error.message.clone())
        };
        return Err(errors.as_slice().iter().map(problem).collect());
    }
    serde_json::from_value(value).map_err(|error| vec![context.problem("", error.to_string())])
}

#[cfg(test)]
mod tests;
