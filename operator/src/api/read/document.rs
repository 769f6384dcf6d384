//! Owns a document of a file: what it is, and its text, to which problems refer.

use super::problem::Problem;
use super::schema;
use super::yaml::Node;
use crate::api::{CacheCluster, CacheGroup};

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A valid CacheCluster with its defaults.
    Cluster(Box<CacheCluster>),
    /// A valid CacheGroup with its defaults.
    Group(Box<CacheGroup>),
    /// An object of another API, which is not checked. Its name is empty when it has none.
    #[expect(missing_docs, reason = "the object's fields of the same names")]
    Other { api_version: String, kind: String, name: String },
}

/// A document as it was written, to which problems refer.
pub(super) struct SourceDocument<'n> {
    pub(super) node: &'n Node,
    pub(super) object: String,
}

impl SourceDocument<'_> {
    /// A problem at a JSON pointer.
    pub(super) fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem {
            line: self.node.line(pointer),
            object: self.object.clone(),
            field: schema::dotted(pointer),
            message: message.into(),
        }
    }
}
