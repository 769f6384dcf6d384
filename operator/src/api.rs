//! Owns the two resources as Rust types, `larder.dev/v1alpha1`: fields, units, defaults and rules.
//! It never calls Kubernetes and decides nothing about a running cluster.
//!
//! The CRDs are generated from these types ([`crate::crd`]), so each field is defined once. Start
//! at [`cluster`] or [`group`]. [`defaults`] contains every default, [`status`] the names of the
//! conditions, and [`read`] the reader of users' YAML.

#![allow(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its `pub` into the function that makes its schema"
)]

pub mod cluster;
pub mod defaults;
pub mod group;
pub mod read;
mod rules;
pub mod status;

pub use cluster::{CacheCluster, CacheClusterSpec, CacheClusterStatus};
pub use group::{CacheGroup, CacheGroupSpec, CacheGroupStatus};
pub use read::{Document, Problem, read_documents};

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Secret in the same namespace, by name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of a Secret in the namespace of this object. Required, no default.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of a Secret in the namespace of this object. Required, no default.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret. Default: url.
    #[serde(default = "defaults::secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The schema of a quantity: a number or a string such as `512Mi`.
pub(crate) fn quantity_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": "^[0-9]+(\\.[0-9]+)?(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]+))?$",
        "maxLength": 32,
    })
}
