//! The programs, and where each is defined in `tools/`.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::workspace;

/// A program that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tool {
    /// The Kubernetes API.
    KubeApiserver,
    /// Runs a node's pods.
    Kubelet,
    /// Kubernetes' own controllers.
    KubeControllerManager,
    /// Assigns pods to nodes.
    KubeScheduler,
    /// Routes service addresses on a node.
    KubeProxy,
    /// The Kubernetes command line.
    Kubectl,
    /// Makes volumes of the class `local`.
    LocalProvisioner,
    /// The registry of a cluster.
    Etcd,
    /// The etcd command line.
    Etcdctl,
    /// Installs charts.
    Helm,
    /// The cluster's DNS.
    Coredns,
    /// A generic gRPC client.
    Grpcurl,
    /// Holds a pod's namespaces open.
    Pause,
}

impl Tool {
    /// The folder in `tools/` whose module pins the program.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::KubeApiserver
            | Self::Kubelet
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::KubeProxy
            | Self::Kubectl
            | Self::LocalProvisioner
            | Self::Coredns
            | Self::Helm => "kubernetes",
            Self::Etcd | Self::Etcdctl => "etcd",
            Self::Grpcurl => "grpcurl",
            Self::Pause => "pause",
        }
    }

    /// The Go package with its `main` function.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::LocalProvisioner => "./local-provisioner",
            Self::Coredns => "./coredns",
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Etcdctl => "go.etcd.io/etcd/etcdctl/v3",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::Pause => ".",
            Self::Grpcurl => "github.com/fullstorydev/grpcurl/cmd/grpcurl",
        }
    }

    /// The name of the program's file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::Kubelet => "kubelet",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::LocalProvisioner => "local-provisioner",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Helm => "helm",
            Self::Coredns => "coredns",
            Self::Grpcurl => "grpcurl",
            Self::Pause => "pause",
        }
    }

    /// The name that `go build` gives the file.
    pub(super) fn built_as(self) -> &'static str {
        match self {
            Self::Etcd => "server",
            other => other.name(),
        }
    }
}

/// The module file of a folder in `tools/`.
pub(super) fn module_file(folder: &str) -> PathBuf {
    workspace::root().join("tools").join(folder).join("go.mod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_declared_by_its_module() {
        for tool in Tool::value_variants() {
            let text = std::fs::read_to_string(module_file(tool.folder())).expect("a go.mod");
            if !tool.package().starts_with('.') {
                assert!(text.contains(tool.package()), "{tool:?} is not in its go.mod");
            }
        }
    }
}
