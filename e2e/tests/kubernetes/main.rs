//! The product on a real Kubernetes, installed by helm and used as its users do.
//!
//! One cluster `shop`, made from `manifests/examples/shop.yaml` over a real PostgreSQL, is shared
//! by the tests that leave it as they found it; they take turns by one lock ([`world`]). What is
//! lost, mistaken or deleted has namespaces of its own.
#![expect(clippy::print_stdout, reason = "the tests print the figures that they measure")]

mod etcd_away;
mod external_etcd;
mod grpc;
mod installing;
mod members;
mod reading;
mod resources;
mod world;
