//! From a contract to its loader.

use std::sync::Arc;

use larder_proto::contract::{Origin, OriginLimits};

use super::credentials::Credentials;
use super::error::Error;
use super::http::HttpLoader;
use super::loader::Loader;
use super::sql::SqlLoader;

/// Builds the loader that a contract describes. It does not connect yet.
///
/// # Errors
/// An invalid description: a statement without exactly one parameter, or a template that is no URL.
/// A missing credential is an error of each load instead, because it may still arrive.
pub fn build(
    origin: &Origin,
    limits: &OriginLimits,
    credentials: &Credentials,
    max_value_bytes: usize,
) -> Result<Arc<dyn Loader>, Error> {
    Ok(match origin {
        Origin::Sql(sql) => Arc::new(SqlLoader::new(sql, limits, credentials, max_value_bytes)?),
        Origin::Http(http) => Arc::new(HttpLoader::new(http, limits, max_value_bytes)?),
    })
}
