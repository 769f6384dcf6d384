//! What the tests on a real Kubernetes share: the cluster, the programs beside it, waiting.
//!
//! The tests run inside the network of the throw-away cluster's first node, where pod and service
//! addresses are reachable; `cargo xtask test` sees to that. Everything a user would touch is
//! touched as a user does: helm, kubectl, YAML, a stock gRPC client, a stock Prometheus.
//! Nothing here stands in for a part of the product.

pub mod certificates;
pub mod cluster;
pub mod poll;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod reader;
