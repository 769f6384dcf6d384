//! Names, addresses and folders of a cluster of N nodes. Pure data: nothing here touches the
//! machine.
//!
//! Everything that the cluster creates has one of the names below, so `down` finds it even when
//! every record is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::workspace;

/// Holds the nodes' disks, the certificates and the owner record. The path is short because a Unix
/// socket's path is limited to 108 bytes, and outside `target` so that `cargo clean` does not lose
/// track of running processes.
pub(crate) const HOME: &str = "/var/lib/larder-kube";
/// The control group, in every hierarchy, that contains all processes of the cluster.
pub(crate) const CGROUP: &str = "larder-kube";
/// Prefix of each network namespace, followed by the node's name.
pub(crate) const NETNS_PREFIX: &str = "larder-";
/// Where `ip netns` mounts the namespaces.
pub(crate) const NETNS_FOLDER: &str = "/run/netns";
/// Addresses of Services.
pub(crate) const SERVICE_SUBNET: &str = "10.89.0.0/16";
/// The address of the service `kubernetes`: the first of [`SERVICE_SUBNET`].
pub(crate) const FIRST_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// Addresses of pods; each node has a /24 of it.
pub(crate) const POD_SUBNET: &str = "10.88.0.0/16";
/// The cluster's DNS domain.
pub(crate) const DOMAIN: &str = "cluster.local";
/// The default StorageClass.
pub(crate) const STORAGE_CLASS: &str = "local";
/// The node number is part of addresses and fits one digit.
pub(crate) const MOST_NODES: u8 = 9;

/// A cluster to create.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Node 1 comes first; the control plane runs in its network namespace.
    pub(crate) nodes: Vec<Node>,
    /// Files for people and tests: kubeconfigs, env.json, programs, logs.
    pub(crate) shown: PathBuf,
}

/// One node to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) number: u8,
}

impl Plan {
    /// A cluster of `count` nodes, from 1 to [`MOST_NODES`].
    pub(crate) fn new(count: u8) -> Self {
        debug_assert!((1..=MOST_NODES).contains(&count));
        Self {
            nodes: (1..=count).map(|number| Node { number }).collect(),
            shown: workspace::target().join("kube"),
        }
    }

    /// The node whose network namespace the control plane shares.
    pub(crate) fn first(&self) -> Node {
        self.nodes[0]
    }

    /// Where the API server listens, inside the cluster's network.
    pub(crate) fn api(&self) -> SocketAddr {
        (self.first().address(), 6443).into()
    }

    /// The administrator's kubeconfig for this machine: it names a loopback port that is forwarded
    /// into the cluster's network.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.shown.join("admin.kubeconfig")
    }

    /// The administrator's kubeconfig for processes inside the cluster's network.
    pub(crate) fn inside_kubeconfig(&self) -> PathBuf {
        self.shown.join("inside.kubeconfig")
    }

    /// A program in the folder that `kube env` adds to the PATH.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.shown.join("bin").join(name)
    }

    /// Log file of one process.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.shown.join("logs").join(format!("{process}.log"))
    }
}

impl Node {
    /// Name in the API, and host name.
    pub(crate) fn name(self) -> String {
        format!("node{}", self.number)
    }

    pub(crate) fn netns(self) -> String {
        format!("{NETNS_PREFIX}{}", self.name())
    }

    /// File that `nsenter` opens to enter the network namespace.
    pub(crate) fn netns_file(self) -> PathBuf {
        PathBuf::from(NETNS_FOLDER).join(self.netns())
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 87, 0, self.number)
    }

    /// Addresses of its pods.
    pub(crate) fn pod_subnet(self) -> String {
        format!("10.88.{}.0/24", self.number)
    }

    /// Folder that serves as its disk.
    pub(crate) fn folder(self) -> PathBuf {
        PathBuf::from(HOME).join(self.name())
    }

    /// Its control group, relative to the root of each hierarchy.
    pub(crate) fn cgroup(self) -> String {
        format!("{CGROUP}/{}", self.name())
    }

    /// containerd's socket, seen from outside the node. Inside, it has the usual path.
    pub(crate) fn containerd_socket(self) -> PathBuf {
        self.folder().join("run/containerd/containerd.sock")
    }
}

/// Path of a certificate, key or kubeconfig.
pub(crate) fn secret(name: &str) -> PathBuf {
    PathBuf::from(HOME).join("pki").join(name)
}

/// Path of a configuration file.
pub(crate) fn setting(name: &str) -> PathBuf {
    PathBuf::from(HOME).join("etc").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_nodes_share_an_address_a_name_or_a_folder() {
        let plan = Plan::new(MOST_NODES);
        let distinct = |of: fn(Node) -> String| {
            plan.nodes.iter().map(|node| of(*node)).collect::<BTreeSet<_>>().len()
        };
        for count in [
            distinct(|node| node.address().to_string()),
            distinct(Node::pod_subnet),
            distinct(Node::netns),
            distinct(Node::cgroup),
            distinct(|node| node.folder().display().to_string()),
        ] {
            assert_eq!(count, usize::from(MOST_NODES));
        }
    }

    #[test]
    fn pods_nodes_and_services_never_overlap() {
        let prefix = |subnet: &str| subnet.rsplit_once(".0.0/16").map(|(head, _)| head.to_owned());
        let (pods, services) = (prefix(POD_SUBNET), prefix(SERVICE_SUBNET));
        assert_ne!(pods, services);
        let node = Plan::new(1).first();
        assert!(node.pod_subnet().starts_with(&format!("{}.", pods.expect("a /16"))));
        assert!(FIRST_SERVICE.to_string().starts_with(&services.expect("a /16")));
    }

    #[test]
    fn sockets_fit_into_an_address() {
        // A sun_path has 108 bytes, with the closing zero.
        let socket = Node { number: MOST_NODES }.containerd_socket();
        assert!(socket.as_os_str().len() < 100, "{}", socket.display());
    }
}
