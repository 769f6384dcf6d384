//! Drives one CacheCluster from what is to what should be.

pub mod apply;
pub mod build;
pub mod observe;
pub mod plan;
pub mod prepare;
pub mod validate;
