//! Shared by the tests on a real Kubernetes: the cluster, programs next to it, waiting.
//!
//! `cargo xtask test` runs them inside the network of the throw-away cluster's first node, where
//! pod and Service addresses are reachable. They use what users use: helm, kubectl, YAML, a stock
//! gRPC client, a stock Prometheus. Nothing here replaces a part of the product.
#![expect(clippy::print_stdout, reason = "the tests print the figures that they measure")]

pub mod certificates;
pub mod cluster;
pub mod poll;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod reader;
pub mod warmth;
