//! The Go programs that tests run together with Larder, pinned by the modules in `tools/`.
//!
//! They are built once per state of their module, into `target/tools/<folder>-<hash>/bin`, and are
//! never linked into the product. Start at [`ensure`].

mod build;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::docker_archive::{self, Image};
use crate::workspace;

/// The name of the pause image on nodes.
pub(crate) const PAUSE_IMAGE: &str = "larder.dev/pause:dev";

/// `cargo xtask tools`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tools to build. Default: all.
    tools: Vec<Tool>,
}

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
    fn folder(self) -> &'static str {
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
    fn package(self) -> &'static str {
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
    fn built_as(self) -> &'static str {
        match self {
            Self::Etcd => "server",
            other => other.name(),
        }
    }
}

/// Paths of programs that [`ensure`] has built.
#[derive(Clone, Debug)]
pub(crate) struct Binaries(BTreeMap<Tool, PathBuf>);

impl Binaries {
    /// The absolute path of a program.
    ///
    /// # Panics
    /// When the tool was not passed to [`ensure`].
    pub(crate) fn path(&self, tool: Tool) -> &Path {
        self.0.get(&tool).expect("the tool was passed to `ensure`")
    }

    /// Paths of all tools in one folder, for tests that start no tool.
    #[cfg(test)]
    pub(crate) fn all_in(folder: &Path) -> Self {
        let tools = Tool::value_variants().iter();
        Self(tools.map(|tool| (*tool, folder.join(tool.name()))).collect())
    }
}

/// Builds the missing programs and returns the paths of all. Several processes may call it at once.
///
/// # Errors
/// When Go is missing, or a build fails; the error holds Go's last messages.
pub(crate) fn ensure(tools: &[Tool]) -> Result<Binaries> {
    let mut folders: BTreeMap<&str, Vec<Tool>> = BTreeMap::new();
    for tool in tools {
        folders.entry(tool.folder()).or_default().push(*tool);
    }
    let mut found = BTreeMap::new();
    for (folder, tools) in folders {
        found.extend(build::folder(folder, &tools)?);
    }
    Ok(Binaries(found))
}

/// The path of a program, if it has been built.
pub(crate) fn built(tool: Tool) -> Option<PathBuf> {
    build::path(tool).ok().filter(|path| path.exists())
}

/// The path of the pause image, a docker-archive that the first call writes.
///
/// # Errors
/// As [`ensure`], or when the archive cannot be written.
pub(crate) fn pause_image() -> Result<PathBuf> {
    let program = ensure(&[Tool::Pause])?.path(Tool::Pause).to_path_buf();
    let archive = program.with_extension("tar");
    if !archive.exists() {
        let image = Image {
            name: PAUSE_IMAGE.into(),
            programs: vec![(program, "/pause".into())],
            entrypoint: vec!["/pause".into()],
            user: "65535:65535".into(),
            ..Image::default()
        };
        docker_archive::write(&image, &archive)?;
    }
    Ok(archive)
}

/// Builds the programs and prints their paths, one per line.
pub(crate) fn run(args: Args) -> Result<()> {
    let known = Tool::value_variants();
    let wanted = if args.tools.is_empty() { known.to_vec() } else { args.tools };
    let binaries = ensure(&wanted)?;
    for tool in wanted {
        println!("{}", binaries.path(tool).display());
    }
    Ok(())
}

/// The module file of a folder in `tools/`.
pub(crate) fn module_file(folder: &str) -> PathBuf {
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
