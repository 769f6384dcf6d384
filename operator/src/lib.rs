//! The operator: the two resources, and every Kubernetes object made from them.
//!
//! Pure parts (the API types in [`api`], the checks and builders) need no client and are used by
//! other programs too; everything that reads or writes a Kubernetes cluster stands apart.

pub mod api;
pub mod args;
pub mod cluster;
pub mod conditions;
pub mod context;
pub mod crd;
pub mod etcd;
pub mod group;
pub mod lease;
pub mod metrics;
pub mod reconcile;
pub mod run;
