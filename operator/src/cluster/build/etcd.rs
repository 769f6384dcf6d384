//! Owns the objects of a managed etcd: one one-replica StatefulSet per member, two Services, one
//! budget.
//!
//! A member is not a replica of its neighbours: each has its own identity, and which may exist is
//! the plan's decision. Learners need no label of their own to stay outside the client Service and
//! the budget: etcd's `/readyz` is false for them (its check `non_learner`), and both count only
//! ready pods.

pub mod pdb;
pub mod service;
pub mod statefulset;

pub use self::statefulset::{read, stateful_set};

use super::names;
use crate::cluster::plan::Naming;
use crate::cluster::validate::Cluster;

/// etcd's port for clients.
pub const CLIENT_PORT: u16 = 2379;
/// etcd's port for peers.
pub const PEER_PORT: u16 = 2380;
/// etcd's port for metrics and probes.
pub const METRICS_PORT: u16 = 2381;

/// How the members of a managed etcd are called.
#[must_use]
pub fn naming(cluster: &Cluster) -> Naming {
    Naming {
        prefix: format!("{}-", names::etcd(&cluster.name)),
        url_head: "http://".into(),
        url_tail: format!("-0{}:{PEER_PORT}", domain(cluster)),
    }
}

/// URL at which one member answers clients.
#[must_use]
pub fn client_url(cluster: &Cluster, member: &str) -> String {
    format!("http://{member}-0{}:{CLIENT_PORT}", domain(cluster))
}

/// What follows a pod's name in its host name. It ends with `svc`, because the domain of the whole
/// Kubernetes cluster is not always `cluster.local`.
fn domain(cluster: &Cluster) -> String {
    format!(".{}.{}.svc", names::etcd_peers(&cluster.name), cluster.namespace)
}
