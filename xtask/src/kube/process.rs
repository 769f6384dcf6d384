//! The programs of a cluster, where each runs and with which arguments. Pure data.

use std::path::{Path, PathBuf};

use super::plan::{
    CGROUP, DOMAIN, HOME, NETNS_FOLDER, Node, POD_SUBNET, Plan, SERVICE_SUBNET, secret, setting,
};
use crate::tools::{Binaries, Tool};

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Name of its log file and of its entry in the process list.
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Absolute path, or a name on the PATH.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// The namespaces in which a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Node 1's network and the machine's file system.
    Control,
    /// A node's network and the machine's file system.
    Network(Node),
    /// A node's network and file system, by the process id of the mount namespace's holder.
    Node(Node, u32),
}

impl Place {
    /// The control group to join, in the tracking hierarchy.
    pub(crate) fn cgroup(self) -> String {
        match self {
            Self::Control => format!("{CGROUP}/control"),
            Self::Network(node) | Self::Node(node, _) => format!("{}/system", node.cgroup()),
        }
    }

    /// Arguments of `nsenter`.
    pub(crate) fn enter(self) -> Vec<String> {
        let net = |node: Node| format!("--net={NETNS_FOLDER}/{}", node.netns());
        match self {
            Self::Control => vec![net(Node { number: 1 })],
            Self::Network(node) => vec![net(node)],
            Self::Node(node, holder) => vec![net(node), format!("--mount=/proc/{holder}/ns/mnt")],
        }
    }
}

/// The command line that starts a process in its place. The shell joins the control group before it
/// executes anything, so `down` finds the program and all its children. No step forks: the program
/// has the process id of the first command.
pub(crate) fn launch(process: &Process, tracking: &Path) -> Vec<String> {
    let mut line = vec!["setsid".to_owned()];
    line.extend(join(process.place, tracking));
    line.push("nsenter".into());
    line.extend(process.place.enter());
    line.push("--".into());
    line.push(process.program.display().to_string());
    line.extend(process.arguments.iter().cloned());
    line
}

/// The start of a command line that joins the control group of a place.
pub(crate) fn join(place: Place, tracking: &Path) -> Vec<String> {
    let procs = tracking.join(place.cgroup()).join("cgroup.procs");
    let script = r#"echo 0 >"$0" && exec "$@""#;
    ["sh", "-c", script, &procs.display().to_string()].map(String::from).to_vec()
}

/// etcd, without fsync: the data need not survive a crash of the machine.
pub(crate) fn etcd(binaries: &Binaries) -> Process {
    let data = Path::new(HOME).join("etcd");
    control(
        binaries,
        Tool::Etcd,
        [
            format!("--data-dir={}", data.display()),
            "--unsafe-no-fsync".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--log-level=warn".into(),
        ],
    )
}

/// The API server, with RBAC, the node authorizer, and Pod Security by namespace labels.
pub(crate) fn apiserver(plan: &Plan, binaries: &Binaries) -> Process {
    let file = |flag: &str, name: &str| format!("--{flag}={}", secret(name).display());
    control(
        binaries,
        Tool::KubeApiserver,
        [
            format!("--advertise-address={}", plan.first().address()),
            "--secure-port=6443".into(),
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
            "--allow-privileged=true".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction,PodSecurity".into(),
            // Sidecar injection without a webhook; stable from 1.36.
            "--feature-gates=MutatingAdmissionPolicy=true".into(),
            "--runtime-config=admissionregistration.k8s.io/v1beta1=true".into(),
            file("client-ca-file", "ca.crt"),
            file("tls-cert-file", "apiserver.crt"),
            file("tls-private-key-file", "apiserver.key"),
            file("kubelet-certificate-authority", "ca.crt"),
            file("kubelet-client-certificate", "apiserver-kubelet.crt"),
            file("kubelet-client-key", "apiserver-kubelet.key"),
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}"),
            file("service-account-key-file", "service-accounts.crt"),
            file("service-account-signing-key-file", "service-accounts.key"),
            "--profiling=false".into(),
        ],
    )
}

/// Forwards connections from a loopback port of the machine to the API server. The program is this
/// process itself: cargo may replace its file at any time.
pub(crate) fn forwarder(plan: &Plan) -> Process {
    Process {
        name: "forwarder".into(),
        place: Place::Control,
        program: format!("/proc/{}/exe", std::process::id()).into(),
        arguments: ["kube".into(), "forward".into(), plan.api().to_string()].into(),
    }
}

/// Kubernetes' controllers. A node without heartbeats becomes NotReady after 12 s instead of 50.
pub(crate) fn controller_manager(binaries: &Binaries) -> Process {
    let file = |flag: &str, name: &str| format!("--{flag}={}", secret(name).display());
    control(
        binaries,
        Tool::KubeControllerManager,
        [
            file("kubeconfig", "controller-manager.kubeconfig"),
            file("root-ca-file", "ca.crt"),
            file("service-account-private-key-file", "service-accounts.key"),
            file("cluster-signing-cert-file", "ca.crt"),
            file("cluster-signing-key-file", "ca.key"),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            // By default it creates a folder in /usr.
            format!("--flex-volume-plugin-dir={HOME}/volume-plugins"),
            "--node-monitor-period=2s".into(),
            "--node-monitor-grace-period=12s".into(),
        ],
    )
}

pub(crate) fn scheduler(binaries: &Binaries) -> Process {
    control(
        binaries,
        Tool::KubeScheduler,
        [
            format!("--kubeconfig={}", secret("scheduler.kubeconfig").display()),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
        ],
    )
}

/// The cluster's DNS server, on node 1's address.
pub(crate) fn coredns(binaries: &Binaries) -> Process {
    let corefile = setting("Corefile").display().to_string();
    control(binaries, Tool::Coredns, ["-conf".into(), corefile])
}

/// Provisions the volumes of the default StorageClass.
pub(crate) fn local_provisioner(binaries: &Binaries) -> Process {
    control(
        binaries,
        Tool::LocalProvisioner,
        [
            format!("-kubeconfig={}", secret("local-provisioner.kubeconfig").display()),
            format!("-root={HOME}"),
        ],
    )
}

/// Holds a node's mount namespace: a private copy of the machine's, in which the folders that
/// containerd, CNI and the kubelet write to are the node's own. The mounts end with the last
/// process of the node.
pub(crate) fn holder(node: Node) -> Process {
    // Binding HOME into `lib` first keeps this cluster's own folder visible at its usual path once
    // `lib` covers /var/lib. The file `held` signals that all mounts exist.
    let script = format!(
        "set -e; cd \"$1\"
         mount --no-mtab --bind run /run
         mount --no-mtab --bind {HOME} lib/larder-kube
         mount --no-mtab --rbind lib /var/lib
         mount --no-mtab --bind log /var/log
         mount --no-mtab --bind opt /opt
         mount --no-mtab --make-rshared /
         touch \"$1\"/held
         exec sleep infinity"
    );
    let folder = node.folder().display().to_string();
    let arguments =
        ["--mount", "--propagation", "private", "--", "sh", "-c", script.as_str(), "sh", &folder];
    Process {
        name: format!("holder-{}", node.name()),
        place: Place::Network(node),
        program: "unshare".into(),
        arguments: arguments.map(String::from).to_vec(),
    }
}

pub(crate) fn containerd(node: Node, holder: u32) -> Process {
    let config = setting(&format!("containerd-{}.toml", node.name()));
    on_node("containerd".into(), node, holder, ["--config".into(), config.display().to_string()])
}

/// A node's kubelet. Every node is its own zone.
pub(crate) fn kubelet(node: Node, holder: u32, binaries: &Binaries) -> Process {
    let name = node.name();
    on_node(
        binaries.path(Tool::Kubelet).into(),
        node,
        holder,
        [
            format!("--config={}", setting(&format!("kubelet-{name}.json")).display()),
            format!("--kubeconfig={}", secret(&format!("kubelet-{name}.kubeconfig")).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node.address()),
            format!("--node-labels=topology.kubernetes.io/zone=zone{}", node.number),
        ],
    )
}

/// A node's Service addresses, by iptables. The zeros keep kube-proxy from changing the machine's
/// connection tracking limits.
pub(crate) fn proxy(node: Node, holder: u32, binaries: &Binaries) -> Process {
    on_node(
        binaries.path(Tool::KubeProxy).into(),
        node,
        holder,
        [
            format!("--kubeconfig={}", secret("proxy.kubeconfig").display()),
            format!("--hostname-override={}", node.name()),
            format!("--cluster-cidr={POD_SUBNET}"),
            "--proxy-mode=iptables".into(),
            "--iptables-min-sync-period=200ms".into(),
            "--conntrack-max-per-core=0".into(),
            "--conntrack-min=0".into(),
            "--conntrack-tcp-timeout-established=0s".into(),
            "--conntrack-tcp-timeout-close-wait=0s".into(),
        ],
    )
}

fn control<const N: usize>(binaries: &Binaries, tool: Tool, arguments: [String; N]) -> Process {
    Process {
        name: tool.name().into(),
        place: Place::Control,
        program: binaries.path(tool).into(),
        arguments: arguments.into(),
    }
}

fn on_node<const N: usize>(
    program: PathBuf,
    node: Node,
    holder: u32,
    arguments: [String; N],
) -> Process {
    let kind = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Process {
        name: format!("{kind}-{}", node.name()),
        place: Place::Node(node, holder),
        program,
        arguments: arguments.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(process: &Process, argument: &str) -> bool {
        process.arguments.iter().any(|each| each == argument)
    }

    #[test]
    fn the_api_server_enforces_rbac_and_pod_security() {
        let binaries = Binaries::all_in(Path::new("/bin"));
        let api = apiserver(&Plan::new(3), &binaries);
        assert!(has(&api, "--authorization-mode=Node,RBAC"));
        assert!(has(&api, "--enable-admission-plugins=NodeRestriction,PodSecurity"));
        assert!(has(&api, "--advertise-address=10.87.0.1"));
    }

    #[test]
    fn a_process_joins_its_control_group_before_it_executes_the_program() {
        let kubelet = kubelet(Node { number: 2 }, 77, &Binaries::all_in(Path::new("/b")));
        let line = launch(&kubelet, Path::new("/sys/fs/cgroup/pids"));
        assert_eq!(line[..3], ["setsid", "sh", "-c"]);
        assert_eq!(line[4], "/sys/fs/cgroup/pids/larder-kube/node2/system/cgroup.procs");
        assert_eq!(
            line[5..10],
            [
                "nsenter",
                "--net=/run/netns/larder-node2",
                "--mount=/proc/77/ns/mnt",
                "--",
                "/b/kubelet"
            ]
        );
    }

    #[test]
    fn process_names_differ_between_nodes() {
        let binaries = Binaries::all_in(Path::new("/b"));
        let names = |number| {
            let node = Node { number };
            [holder(node), containerd(node, 1), kubelet(node, 1, &binaries)].map(|each| each.name)
        };
        assert!(names(1).iter().all(|name| !names(2).contains(name)));
    }
}
