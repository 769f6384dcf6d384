//! From a contract to its loader.

use std::sync::Arc;

use larder_proto::contract::{Origin, OriginLimits};

use super::credentials::Credentials;
use super::error::Error;
use super::http::HttpLoader;
use super::loader::Loader;
use super::sql::SqlLoader;
use super::targets::Targets;

/// What loaders of every kind use.
#[derive(Debug, Clone)]
pub struct LoaderDeps {
    /// Where connection URLs are read.
    pub credentials: Credentials,
    /// Addresses that `http` origins may connect to.
    pub targets: Targets,
    /// A larger value is an error of its key.
    pub max_value_bytes: usize,
}

/// Builds the loader that a contract describes. It does not connect yet.
///
/// # Errors
/// An invalid description: a statement without exactly one parameter, or a template that is no URL
/// or names a forbidden address.
/// A missing credential is an error of each load instead, because it may still arrive.
pub fn build(
    origin: &Origin,
    limits: &OriginLimits,
    deps: &LoaderDeps,
) -> Result<Arc<dyn Loader>, Error> {
    let LoaderDeps { credentials, targets, max_value_bytes } = deps;
    Ok(match origin {
        Origin::Sql(sql) => Arc::new(SqlLoader::new(sql, limits, credentials, *max_value_bytes)?),
        Origin::Http(http) => Arc::new(HttpLoader::new(http, limits, targets, *max_value_bytes)?),
    })
}
