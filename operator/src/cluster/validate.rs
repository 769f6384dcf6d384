//! Owns the step from a CacheCluster as users write it to one that builders can rely on: every
//! quantity parsed, every default that is not in the schema filled in, every choice a Rust enum.
//! Pure.
//!
//! The API server already refuses what the CEL rules cover. What fails here was stored before a
//! rule existed, or the installed CRD is older than this operator.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use larder_proto::config::{Placement, RingHash};

use crate::api::cluster::{
    Algorithm, CacheCluster, EtcdSpec, OriginsSpec, PlacementSpec, RingHash as ApiRingHash,
    SchedulingSpec, SnapshotSpec, StorageSpec,
};

/// A CacheCluster whose every field is parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Namespace of the CacheCluster and of its children.
    pub namespace: String,
    /// Name of the CacheCluster.
    pub name: String,
    /// Uid of the CacheCluster; empty outside Kubernetes.
    pub uid: String,
    /// Generation of the spec; 0 outside Kubernetes.
    pub generation: i64,
    /// Owner reference of every child; none outside Kubernetes.
    pub owner: Option<OwnerReference>,
    /// Number of members wanted.
    pub members: i32,
    /// Memory request and limit of a member's container.
    pub memory: Quantity,
    /// [`Cluster::memory`] in bytes.
    pub memory_bytes: u64,
    /// CPU request of a member's container.
    pub cpu: Quantity,
    /// Where members register.
    pub etcd: Etcd,
    /// How keys are placed.
    pub placement: Placement,
    /// Where members keep snapshots; `None` if they keep none.
    pub snapshot: Option<Snapshot>,
    /// What CacheGroups may use as origins.
    pub origins: OriginsSpec,
    /// Memory that replicas may fill, percent.
    pub replica_percent: u8,
    /// Image of the members.
    pub image: String,
    /// Names of the Secrets for pulling images.
    pub image_pull_secrets: Vec<String>,
    /// Where pods run.
    pub scheduling: SchedulingSpec,
    /// Members that can be evicted at one time.
    pub max_unavailable: i32,
    /// The user's annotations of members' pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// How members keep snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Seconds between two snapshots.
    pub interval_seconds: u64,
    /// A volume for each member with its size in bytes; none to keep snapshots in the pod.
    pub storage: Option<(StorageSpec, u64)>,
}

/// Where members register.
#[derive(Debug, Clone, PartialEq)]
pub enum Etcd {
    /// An etcd cluster that the operator runs.
    Managed(ManagedEtcd),
    /// An existing etcd cluster that the operator does not run.
    External(ExternalEtcd),
}

/// An etcd cluster that the operator runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedEtcd {
    /// Number of voters wanted, 1 or 3.
    pub members: i32,
    /// A volume for each member; none to keep data in the pod.
    pub storage: Option<StorageSpec>,
    /// Image of the etcd members.
    pub image: String,
}

/// An existing etcd cluster that the operator does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalEtcd {
    /// URLs of its client API, at least one.
    pub endpoints: Vec<String>,
    /// Name of the Secret with `ca.crt`, and with `tls.crt` and `tls.key`.
    pub tls_secret: Option<String>,
}

/// The images of CacheClusters that set none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Image of a member.
    pub member: String,
    /// Image of etcd, which contains the program `/etcd`.
    pub etcd: String,
}

impl Default for Images {
    fn default() -> Self {
        // The names that `cargo xtask image` gives; the chart sets those of a release.
        Self { member: "larder-node:dev".into(), etcd: "larder-etcd:dev".into() }
    }
}

/// Why a CacheCluster cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("the object has no name")]
    Name,
    #[error("{field}: {text:?} is not a quantity")]
    Quantity { field: &'static str, text: String },
    #[error("spec.memory: {text} is less than 64Mi")]
    Memory { text: String },
    #[error("spec.etcd: exactly one of managed and external must be set")]
    EtcdKind,
    #[error("spec.etcd.managed.members: {members} is neither 1 nor 3")]
    EtcdMembers { members: i32 },
    #[error("spec.etcd.external.endpoints: at least one is required")]
    EtcdEndpoints,
    #[error("spec.members: {members} is not between 1 and 50")]
    Members { members: i32 },
    #[error("spec.snapshot.intervalSeconds: {seconds} is not between 1 and 86400")]
    SnapshotInterval { seconds: i64 },
    #[error("spec.snapshot.storage.size: {text} is less than 256Mi")]
    SnapshotSize { text: String },
    #[error(
        "spec.origins.allowedTargets: {text:?} is neither an address nor a network such as \
         10.0.0.0/8"
    )]
    Target { text: String },
    #[error("spec.replicaPercent: {percent} is not between 0 and 50")]
    ReplicaPercent { percent: i32 },
    #[error("spec.placement.ring.virtualNodes: {virtual_nodes} is not between 1 and 4096")]
    VirtualNodes { virtual_nodes: i32 },
}

/// Parses and checks every field.
///
/// # Errors
/// The first field that cannot be used, by its path.
pub fn validate(cluster: &CacheCluster, images: &Images) -> Result<Cluster, Error> {
    let name = cluster.metadata.name.clone().ok_or(Error::Name)?;
    let spec = &cluster.spec;
    if !(1..=50).contains(&spec.members) {
        return Err(Error::Members { members: spec.members });
    }
    let memory_bytes = bytes("spec.memory", &spec.memory)?;
    if memory_bytes < 64 << 20 {
        return Err(Error::Memory { text: spec.memory.0.clone() });
    }
    Ok(Cluster {
        namespace: cluster.namespace().unwrap_or_else(|| "default".into()),
        name,
        uid: cluster.uid().unwrap_or_default(),
        generation: cluster.metadata.generation.unwrap_or_default(),
        owner: cluster.controller_owner_ref(&()),
        members: spec.members,
        memory: spec.memory.clone(),
        memory_bytes,
        cpu: spec.cpu.clone(),
        etcd: etcd(&spec.etcd, images)?,
        placement: placement(&spec.placement)?,
        snapshot: snapshot(&spec.snapshot)?,
        origins: origins(&spec.origins)?,
        replica_percent: replica_percent(spec.replica_percent)?,
        image: spec.image.clone().unwrap_or_else(|| images.member.clone()),
        image_pull_secrets: spec.image_pull_secrets.iter().map(|s| s.name.clone()).collect(),
        scheduling: spec.scheduling.clone().unwrap_or_default(),
        max_unavailable: spec.pod_disruption.max_unavailable,
        pod_annotations: spec.pod_annotations.clone(),
    })
}

fn etcd(spec: &EtcdSpec, images: &Images) -> Result<Etcd, Error> {
    match (&spec.managed, &spec.external) {
        (Some(managed), None) => {
            if !matches!(managed.members, 1 | 3) {
                return Err(Error::EtcdMembers { members: managed.members });
            }
            if let Some(storage) = &managed.storage {
                bytes("spec.etcd.managed.storage.size", &storage.size)?;
            }
            Ok(Etcd::Managed(ManagedEtcd {
                members: managed.members,
                storage: managed.storage.clone(),
                image: managed.image.clone().unwrap_or_else(|| images.etcd.clone()),
            }))
        }
        (None, Some(external)) if external.endpoints.is_empty() => Err(Error::EtcdEndpoints),
        (None, Some(external)) => Ok(Etcd::External(ExternalEtcd {
            endpoints: external.endpoints.clone(),
            tls_secret: external.tls_secret_ref.as_ref().map(|secret| secret.name.clone()),
        })),
        (Some(_), Some(_)) | (None, None) => Err(Error::EtcdKind),
    }
}

fn origins(spec: &OriginsSpec) -> Result<OriginsSpec, Error> {
    let usable = |text: &str| text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    match spec.allowed_targets.iter().find(|text| !usable(text)) {
        Some(text) => Err(Error::Target { text: text.clone() }),
        None => Ok(spec.clone()),
    }
}

fn snapshot(spec: &SnapshotSpec) -> Result<Option<Snapshot>, Error> {
    if !spec.enabled {
        return Ok(None);
    }
    let seconds = spec.interval_seconds;
    let interval_seconds = u64::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or(Error::SnapshotInterval { seconds })?;
    let sized = |storage: &StorageSpec| {
        let size = bytes("spec.snapshot.storage.size", &storage.size)?;
        if size < 256 << 20 {
            return Err(Error::SnapshotSize { text: storage.size.0.clone() });
        }
        Ok((storage.clone(), size))
    };
    let storage = spec.storage.as_ref().map(sized).transpose()?;
    Ok(Some(Snapshot { interval_seconds, storage }))
}

fn replica_percent(percent: i32) -> Result<u8, Error> {
    let valid = u8::try_from(percent).ok().filter(|percent| *percent <= 50);
    valid.ok_or(Error::ReplicaPercent { percent })
}

fn placement(spec: &PlacementSpec) -> Result<Placement, Error> {
    let ring = match spec.algorithm {
        Algorithm::Rendezvous => return Ok(Placement::Rendezvous {}),
        Algorithm::Ring => spec.ring.clone().unwrap_or_default(),
    };
    let virtual_nodes = u32::try_from(ring.virtual_nodes)
        .ok()
        .filter(|points| (1..=4096).contains(points))
        .ok_or(Error::VirtualNodes { virtual_nodes: ring.virtual_nodes })?;
    let hash = match ring.hash {
        ApiRingHash::Crc32 => RingHash::Crc32,
        ApiRingHash::Xxh3 => RingHash::Xxh3,
    };
    Ok(Placement::Ring { virtual_nodes, hash })
}

fn bytes(field: &'static str, quantity: &Quantity) -> Result<u64, Error> {
    parse_bytes(&quantity.0).ok_or_else(|| Error::Quantity { field, text: quantity.0.clone() })
}

/// The whole bytes of a Kubernetes quantity, rounded up as Kubernetes does; `None` for text that is
/// not a quantity, is negative, or does not fit.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 19 || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let (up, down): (u128, u128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10u128.checked_pow(power.unsigned_abs()).filter(|f| *f <= 1 << 64)?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    u64::try_from(mantissa.checked_mul(up)?.div_ceil(scale.checked_mul(down)?)).ok()
}

/// A cluster for tests: a minimal CacheCluster with this spec as YAML, read and validated.
#[cfg(test)]
pub(crate) fn example(spec: &str) -> Cluster {
    let text = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: CacheCluster\n\
         metadata: {{name: shop, namespace: prod, uid: u1}}\nspec: {spec}\n"
    );
    let cluster = serde_saphyr::from_str(&text).expect("valid YAML");
    validate(&cluster, &Images::default()).expect("valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::{ExternalEtcdSpec, ManagedEtcdSpec};

    /// The smallest CacheCluster, as the API server returns it.
    fn shop(change: impl FnOnce(&mut CacheCluster)) -> CacheCluster {
        let mut cluster: CacheCluster = serde_json::from_value(serde_json::json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "CacheCluster",
            "metadata": {"name": "shop", "namespace": "prod", "uid": "u1", "generation": 4},
            "spec": {"memory": "512Mi"},
        }))
        .expect("valid");
        change(&mut cluster);
        cluster
    }

    #[test]
    fn the_smallest_cluster_gets_every_default() {
        let cluster = validate(&shop(|_| {}), &Images::default()).expect("valid");
        assert_eq!((cluster.members, cluster.memory_bytes), (3, 512 << 20));
        assert_eq!(cluster.placement, Placement::Rendezvous {});
        assert_eq!(cluster.generation, 4);
        assert_eq!(cluster.owner.expect("has a uid").uid, "u1");
        let Etcd::Managed(etcd) = cluster.etcd else { panic!("managed") };
        assert_eq!((etcd.members, etcd.storage), (3, None));
    }

    #[test]
    fn unusable_fields_are_reported_by_their_path() {
        type Change = fn(&mut CacheCluster);
        let cases: [(Change, &str); 11] = [
            (
                |c| c.spec.origins.allowed_targets = vec!["10.0.0.1".into(), "10.0.0.0/33".into()],
                "spec.origins.allowedTargets: \"10.0.0.0/33\" is neither an address nor a network \
                 such as 10.0.0.0/8",
            ),
            (|c| c.spec.replica_percent = 51, "spec.replicaPercent: 51 is not between 0 and 50"),
            (
                |c| c.spec.snapshot.interval_seconds = 0,
                "spec.snapshot.intervalSeconds: 0 is not between 1 and 86400",
            ),
            (|c| c.metadata.name = None, "the object has no name"),
            (|c| c.spec.members = 51, "spec.members: 51 is not between 1 and 50"),
            (|c| c.spec.memory.0 = "much".into(), "spec.memory: \"much\" is not a quantity"),
            (|c| c.spec.memory.0 = "63Mi".into(), "spec.memory: 63Mi is less than 64Mi"),
            (
                |c| c.spec.etcd.managed = None,
                "spec.etcd: exactly one of managed and external must be set",
            ),
            (
                |c| {
                    c.spec.etcd.managed =
                        Some(ManagedEtcdSpec { members: 2, ..ManagedEtcdSpec::default() });
                },
                "spec.etcd.managed.members: 2 is neither 1 nor 3",
            ),
            (
                |c| {
                    c.spec.etcd.managed = None;
                    c.spec.etcd.external =
                        Some(ExternalEtcdSpec { endpoints: Vec::new(), tls_secret_ref: None });
                },
                "spec.etcd.external.endpoints: at least one is required",
            ),
            (
                |c| {
                    c.spec.placement.algorithm = Algorithm::Ring;
                    c.spec.placement.ring.get_or_insert_default().virtual_nodes = -1;
                },
                "spec.placement.ring.virtualNodes: -1 is not between 1 and 4096",
            ),
        ];
        for (change, message) in cases {
            let error = validate(&shop(change), &Images::default()).expect_err(message);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn quantities_are_parsed_as_kubernetes_parses_them() {
        let cases = [
            ("512Mi", Some(512 << 20)),
            ("0.5Gi", Some(512 << 20)),
            ("1.5Gi", Some(1536 << 20)),
            ("1G", Some(1_000_000_000)),
            ("1e3", Some(1_000)),
            ("12e-1", Some(2)),
            ("1500m", Some(2)),
            ("0", Some(0)),
            ("", None),
            ("Mi", None),
            ("-1", None),
            ("1 Mi", None),
            ("1.2.3", None),
            ("1e40", None),
            ("9999999999999999999E", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
