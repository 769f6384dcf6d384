//! The operator: the two resources, and every Kubernetes object made from them.
//!
//! The API types in [`api`], the validation and the builders need no client; other programs use
//! them too. Modules that read or write a Kubernetes cluster are separate from them.

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
