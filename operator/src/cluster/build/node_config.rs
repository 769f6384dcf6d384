//! Owns the members' configuration file: the settings of `larder-node` that follow from a
//! CacheCluster. What differs between pods (name, uid, address, zone) comes from the environment.

use larder_proto::config::{
    ClusterRef, Limits, Listen, MemberMode, Mode, NodeConfig, RegistryConfig, SnapshotConfig,
    capacity_bytes,
};

use crate::cluster::names;
use crate::cluster::validate::{Cluster, Etcd, Snapshot, parse_bytes};

/// Folder of the configuration file inside a member's pod.
pub const CONFIG_DIRECTORY: &str = "/etc/larder/config";
/// Name of the configuration file.
pub const CONFIG_FILE: &str = "node.json";
/// Folder of the origins' credentials inside a member's pod.
pub const CREDENTIALS_DIRECTORY: &str = "/etc/larder/credentials";
/// Folder of an external etcd's certificates inside a member's pod.
pub const ETCD_TLS_DIRECTORY: &str = "/etc/larder/etcd-tls";
/// Folder of the snapshots inside a member's pod.
pub const SNAPSHOT_DIRECTORY: &str = "/var/lib/larder";
/// Time for requests in flight to finish after SIGTERM, seconds.
pub const DRAIN_SECONDS: u64 = 20;

/// Largest snapshot in a pod's own storage, which it shares with all pods of the Kubernetes node.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;
/// Share of a volume for one snapshot, percent. Two exist while one is written, and journals.
const SNAPSHOT_PERCENT: u64 = 45;

/// Largest snapshot of a member.
#[must_use]
pub fn snapshot_bytes(cluster: &Cluster, snapshot: &Snapshot) -> u64 {
    let room = match &snapshot.storage {
        Some((_, bytes)) => bytes / 100 * SNAPSHOT_PERCENT,
        None => MAX_SNAPSHOT_BYTES,
    };
    capacity_bytes(cluster.memory_bytes).min(room)
}

/// The configuration of every member of `cluster`.
#[must_use]
pub fn node_config(cluster: &Cluster) -> NodeConfig {
    let (endpoints, tls_directory) = match &cluster.etcd {
        Etcd::Managed(_) => (vec![names::etcd_url(&cluster.namespace, &cluster.name)], None),
        Etcd::External(external) => (
            external.endpoints.clone(),
            external.tls_secret.as_ref().map(|_| ETCD_TLS_DIRECTORY.into()),
        ),
    };
    NodeConfig {
        cluster: ClusterRef { namespace: cluster.namespace.clone(), name: cluster.name.clone() },
        mode: Mode::Member(MemberMode {
            registry: RegistryConfig { endpoints, tls_directory, lease_ttl_seconds: 10 },
            placement: cluster.placement.clone(),
            capacity_bytes: capacity_bytes(cluster.memory_bytes),
            memory_bytes: Some(cluster.memory_bytes),
            replica_percent: cluster.replica_percent,
            hot_percent: 10,
            hot_ttl_ms: 1_000,
            snapshot: cluster.snapshot.as_ref().map(|snapshot| SnapshotConfig {
                directory: SNAPSHOT_DIRECTORY.into(),
                interval_seconds: snapshot.interval_seconds,
                max_bytes: snapshot_bytes(cluster, snapshot),
                bytes_per_second: 32 << 20,
            }),
        }),
        listen: Listen::default(),
        limits: Limits { workers: workers(cluster), ..Limits::default() },
        credentials_directory: CREDENTIALS_DIRECTORY.into(),
        allowed_targets: cluster.origins.allowed_targets.clone(),
        tls: None,
        drain_seconds: DRAIN_SECONDS,
    }
}

/// Serving threads: one per requested core and at least two, because a request is not a limit.
fn workers(cluster: &Cluster) -> usize {
    let cores = parse_bytes(&cluster.cpu.0).unwrap_or(0);
    usize::try_from(cores).unwrap_or(0).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    #[test]
    fn a_managed_etcd_is_reached_through_its_client_service() {
        let config = node_config(&example("{memory: 512Mi}"));
        let Mode::Member(member) = config.mode else { panic!("a member") };
        assert_eq!(member.registry.endpoints, ["http://shop-etcd.prod.svc:2379"]);
        assert_eq!(member.registry.tls_directory, None);
        assert_eq!((member.memory_bytes, member.replica_percent), (Some(512 << 20), 12));
        assert_eq!(config.limits.workers, 2);
    }

    #[test]
    fn an_external_etcd_is_reached_at_its_endpoints_with_its_certificates() {
        let spec = "{memory: 64Mi, cpu: 1500m, etcd: {external: {endpoints: ['https://a:2379'],\
                     tlsSecretRef: {name: etcd-client}}}}";
        let config = node_config(&example(spec));
        assert_eq!(config.limits.workers, 2);
        let Mode::Member(member) = config.mode else { panic!("a member") };
        assert_eq!(member.registry.endpoints, ["https://a:2379"]);
        assert_eq!(member.registry.tls_directory.as_deref(), Some("/etc/larder/etcd-tls"));
    }

    #[test]
    fn members_can_read_the_rendered_file() {
        let config =
            node_config(&example("{memory: 1Gi, replicaPercent: 0, placement: {algorithm: Ring}}"));
        let text = serde_json::to_string(&config).expect("plain data");
        assert_eq!(serde_json::from_str::<NodeConfig>(&text).expect("own text"), config);
        assert!(text.contains(r#""replicaPercent":0,"#), "{text}");
        assert!(text.contains(r#""ring":{"virtualNodes":160,"hash":"Xxh3"}"#), "{text}");
    }
}
