//! What a cluster of N nodes is called and where its addresses and folders lie. Pure data: nothing
//! here touches the machine.
//!
//! Everything that the cluster makes has one of the names below, so that `down` finds it again
//! even when every record is lost.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::workspace;

/// The folder for the nodes' disks, the certificates and the record of who made it. It is short,
/// because Unix sockets below it may have 108 bytes, and outside `target`, so that a
/// `cargo clean` cannot lose track of running processes.
pub(crate) const HOME: &str = "/var/lib/larder-kube";
/// The control group, in every hierarchy, above all that the cluster runs.
pub(crate) const CGROUP: &str = "larder-kube";
/// Each network namespace is this, followed by a node's name.
pub(crate) const NETNS_PREFIX: &str = "larder-";
/// Where `ip netns` keeps the namespaces.
pub(crate) const NETNS_FOLDER: &str = "/run/netns";
/// The services' addresses.
pub(crate) const SERVICE_SUBNET: &str = "10.89.0.0/16";
/// The address of the service `kubernetes`: the first of [`SERVICE_SUBNET`].
pub(crate) const FIRST_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// All pods' addresses; each node has a 24th of it.
pub(crate) const POD_SUBNET: &str = "10.88.0.0/16";
/// The cluster's DNS domain.
pub(crate) const DOMAIN: &str = "cluster.local";
/// The default StorageClass.
pub(crate) const STORAGE_CLASS: &str = "local";
/// More nodes than this is not what one machine is for.
pub(crate) const MOST_NODES: u8 = 9;

/// A cluster to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Node 1 first; the control plane lives in its network namespace.
    pub(crate) nodes: Vec<Node>,
    /// For people and tests: kubeconfig, env.json, wrappers, logs.
    pub(crate) shown: PathBuf,
}

/// One node to be.
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

    /// Where the API is served.
    pub(crate) fn server(&self) -> String {
        format!("https://{}:6443", self.first().address())
    }

    /// The kubeconfig of the person at the terminal, who may do everything.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.shown.join("admin.kubeconfig")
    }

    /// The log of one process.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.shown.join("logs").join(format!("{process}.log"))
    }
}

impl Node {
    /// Its name in the API, also its host name.
    pub(crate) fn name(self) -> String {
        format!("node{}", self.number)
    }

    /// Its network namespace.
    pub(crate) fn netns(self) -> String {
        format!("{NETNS_PREFIX}{}", self.name())
    }

    /// The file to enter its network namespace by.
    pub(crate) fn netns_file(self) -> PathBuf {
        PathBuf::from(NETNS_FOLDER).join(self.netns())
    }

    /// Its own address.
    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 87, 0, self.number)
    }

    /// Its pods' addresses.
    pub(crate) fn pod_subnet(self) -> String {
        format!("10.88.{}.0/24", self.number)
    }

    /// Its disk.
    pub(crate) fn folder(self) -> PathBuf {
        PathBuf::from(HOME).join(self.name())
    }

    /// Its control group, below every hierarchy.
    pub(crate) fn cgroup(self) -> String {
        format!("{CGROUP}/{}", self.name())
    }

    /// containerd's socket, as seen from outside the node. Inside it has its usual place.
    pub(crate) fn containerd_socket(self) -> PathBuf {
        self.folder().join("run/containerd/containerd.sock")
    }
}

/// A file among the certificates and kubeconfigs.
pub(crate) fn secret(name: &str) -> PathBuf {
    PathBuf::from(HOME).join("pki").join(name)
}

/// A file of settings.
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
