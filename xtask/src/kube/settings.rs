//! Text of every configuration file and of the objects that a new cluster starts with. Pure.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::plan::{DOMAIN, Node, Plan, STORAGE_CLASS, secret};
use super::process::Place;
use crate::tools::PAUSE_IMAGE;

/// A kubeconfig (JSON is valid YAML) for an API server at `server`. The certificate files are named
/// after the user.
pub(crate) fn kubeconfig(server: SocketAddr, user: &str) -> String {
    pretty(&json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "larder",
        "clusters": [{"name": "larder", "cluster": {
            "server": format!("https://{server}"), "certificate-authority": secret("ca.crt"),
        }}],
        "contexts": [{"name": "larder", "context": {"cluster": "larder", "user": user}}],
        "users": [{"name": user, "user": {
            "client-certificate": secret(&format!("{user}.crt")),
            "client-key": secret(&format!("{user}.key")),
        }}],
    }))
}

/// A kubelet's configuration: it reports often, evicts late and has its own control group.
pub(crate) fn kubelet(plan: &Plan, node: Node) -> String {
    let name = node.name();
    pretty(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": node.address(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": secret("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": secret(&format!("kubelet-{name}.crt")),
        "tlsPrivateKeyFile": secret(&format!("kubelet-{name}.key")),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        // Two kubelets with one cgroup root kill each other's pods.
        "cgroupRoot": format!("/{}", node.cgroup()),
        "failSwapOn": false,
        "failCgroupV1": false,
        "clusterDNS": [plan.first().address()],
        "clusterDomain": DOMAIN,
        "resolvConf": super::plan::setting("resolv.conf"),
        "nodeStatusUpdateFrequency": "3s",
        "nodeLeaseDurationSeconds": 12,
        "syncFrequency": "10s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        // The nodes share memory and disk with everything else on the machine.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%",
            "nodefs.inodesFree": "1%", "imagefs.available": "1%", "imagefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "shutdownGracePeriod": "0s",
    }))
}

/// containerd's configuration (version 2, for containerd 1.6). It uses the usual paths, where each
/// node has its own folders mounted.
pub(crate) fn containerd(node: Node) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        cni = super::plan::setting(&format!("cni-{}", node.name())).display(),
    )
}

/// A node's pod network: one routed veth pair per pod. Service addresses then work between pods of
/// one node without the kernel's bridge netfilter.
pub(crate) fn cni(node: Node) -> String {
    pretty(&json!({
        "cniVersion": "1.0.0", "name": "larder",
        "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": node.pod_subnet()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    }))
}

/// CoreDNS serves the cluster's names only. It has no cache and a TTL of one second, so clients see
/// a new member's name at once.
pub(crate) fn corefile(plan: &Plan) -> String {
    format!(
        ".:53 {{
    bind {address}
    errors
    ready 127.0.0.1:8181
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
",
        address = plan.first().address(),
        kubeconfig = secret("coredns.kubeconfig").display(),
    )
}

/// For pods that use the node's own resolver.
pub(crate) fn resolv_conf(plan: &Plan) -> String {
    format!("nameserver {}\n", plan.first().address())
}

/// Objects of a new cluster: RBAC of the DNS server and of the provisioner, and the default
/// StorageClass.
pub(crate) fn first_objects() -> String {
    let read = ["get", "list", "watch"];
    let mut items = Vec::new();
    let mut may = |user: &str, rules: Value| {
        let name = format!("larder:{user}");
        items.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        }));
        items.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name,
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name},
            ],
        }));
    };
    may(
        "coredns",
        json!([
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ]),
    );
    may(
        "local-provisioner",
        json!([
            {"apiGroups": [""], "resources": ["persistentvolumes"],
                "verbs": ["get", "list", "watch", "create", "delete"]},
            {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": read},
        ]),
    );
    items.push(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {
            "storageclass.kubernetes.io/is-default-class": "true",
        }},
        "provisioner": "larder.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }));
    pretty(&json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// `target/kube/env.json`, by which tests and scripts find the cluster.
pub(crate) fn environment(plan: &Plan) -> String {
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name(),
                "address": node.address(),
                "netns": node.netns(),
                "netnsFile": node.netns_file(),
                "podSubnet": node.pod_subnet(),
                "containerdSocket": node.containerd_socket(),
            })
        })
        .collect();
    pretty(&json!({
        "kubeconfig": plan.kubeconfig(),
        "insideKubeconfig": plan.inside_kubeconfig(),
        "kubectl": plan.program("kubectl"),
        "inCluster": plan.program("in-cluster"),
        "netns": plan.first().netns(),
        "netnsFile": plan.first().netns_file(),
        "dns": plan.first().address(),
        "storageClass": STORAGE_CLASS,
        "logs": plan.shown.join("logs"),
        "nodes": nodes,
    }))
}

/// A shell script that runs one program inside node 1's network. It joins the cluster's control
/// group first, so `down` kills the program even when the test that started it is gone.
pub(crate) fn wrapper(plan: &Plan, tracking: &Path, program: &str) -> String {
    let procs = tracking.join(Place::Control.cgroup()).join("cgroup.procs");
    format!(
        "#!/bin/sh
# Runs inside the network of the throw-away cluster's first node, at most until `kube down`.
echo 0 >'{}' || exit
KUBECONFIG='{}' exec nsenter --net='{}' -- {program} \"$@\"
",
        procs.display(),
        plan.inside_kubeconfig().display(),
        plan.first().netns_file().display()
    )
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kubelet_has_a_control_group_of_its_own() {
        let plan = Plan::new(2);
        let of = |node| -> Value { serde_json::from_str(&kubelet(&plan, node)).expect("JSON") };
        assert_eq!(of(plan.nodes[0])["cgroupRoot"], "/larder-kube/node1");
        assert_eq!(of(plan.nodes[1])["cgroupRoot"], "/larder-kube/node2");
        assert_eq!(of(plan.nodes[1])["clusterDNS"][0], "10.87.0.1");
    }

    #[test]
    fn no_rule_of_the_first_objects_has_a_wildcard() {
        assert!(!first_objects().contains('*'));
    }

    #[test]
    fn there_is_one_default_class_and_it_waits_for_the_pod() {
        let list: Value = serde_json::from_str(&first_objects()).expect("JSON");
        let classes: Vec<&Value> = list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|item| item["kind"] == "StorageClass")
            .collect();
        assert_eq!(classes.len(), 1);
        assert_eq!(classes[0]["volumeBindingMode"], "WaitForFirstConsumer");
    }

    #[test]
    fn the_environment_names_what_tests_need() {
        let env: Value = serde_json::from_str(&environment(&Plan::new(3))).expect("JSON");
        assert_eq!(env["netns"], "larder-node1");
        assert_eq!(env["nodes"].as_array().map(Vec::len), Some(3));
        assert!(env["kubeconfig"].as_str().expect("a path").ends_with("kube/admin.kubeconfig"));
    }

    #[test]
    fn a_wrapper_joins_the_control_group_before_it_becomes_the_program() {
        let text = wrapper(&Plan::new(1), Path::new("/sys/fs/cgroup/pids"), "'/b/helm'");
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert!(lines[0].contains("/sys/fs/cgroup/pids/larder-kube/control/cgroup.procs"));
        assert!(lines[1].ends_with("--net='/run/netns/larder-node1' -- '/b/helm' \"$@\""));
    }
}
