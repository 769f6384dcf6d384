//! The product on a real Kubernetes, installed by helm and used as its users use it.
//!
//! Every run has namespaces of its own, with random names ([`world`]), so state of an earlier run
//! does no harm. The tests of [`alone`] stop or reconfigure the operator; each runs while no other
//! test does. The tests of [`together`] run at the same time: they read one CacheCluster ([`shop`])
//! or have a namespace of their own. libtest starts tests in the order of their names, so those of
//! `alone` come first.
#![expect(clippy::print_stdout, reason = "the tests print the figures that they measure")]

mod alone;
mod etcd;
mod gate;
mod grpc;
mod helm;
mod shop;
mod together;
mod warmth;
mod world;
