//! Owns every object that a CacheCluster is made of, as pure functions of a validated [`Cluster`]:
//! one file and one test per object. It uses no client and reads no clock, so the same cluster
//! always gives the same objects and a settled cluster needs no write.
//!
//! Start at [`Objects`]; [`names`] and [`labels`] are what everything agrees on.

pub mod etcd;
pub mod labels;
pub mod member;
pub mod monitoring;
pub mod names;
pub mod node_config;
pub mod pod;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::member::secret::credentials;
pub use self::node_config::{capacity_bytes, node_config};
use super::validate::{Cluster, Etcd};

/// Everything that stands for a CacheCluster and follows from its spec alone. The members of etcd
/// are not here: which of them may exist, and how each starts, depends on what is observed, so the
/// plan makes them one by one with [`etcd::stateful_set`].
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// The members' configuration file.
    pub config: ConfigMap,
    /// Names each member for its peers and for ring-aware clients.
    pub members_service: Service,
    /// Where other clients send requests.
    pub client_service: Service,
    /// Bounds evictions of members.
    pub member_budget: PodDisruptionBudget,
    /// The Services and the budget of a managed etcd.
    pub etcd: Option<EtcdObjects>,
    /// The members. Written last, so that what its pods mount exists.
    pub members: StatefulSet,
}

/// What stands around the members of a managed etcd.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdObjects {
    /// Names each etcd member for its peers and for the operator.
    pub peers_service: Service,
    /// Where members of the cache find etcd: voters that answer.
    pub client_service: Service,
    /// Keeps a quorum; none for a single member, which has none to keep.
    pub budget: Option<PodDisruptionBudget>,
}

impl Objects {
    /// Builds all of them.
    #[must_use]
    pub fn build(cluster: &Cluster) -> Self {
        let etcd = match &cluster.etcd {
            Etcd::Managed(managed) => Some(EtcdObjects {
                peers_service: etcd::service::peers(cluster),
                client_service: etcd::service::client(cluster),
                budget: etcd::pdb::budget(cluster, managed),
            }),
            Etcd::External(_) => None,
        };
        let config = member::config_map::config_map(cluster);
        Self {
            members: member::statefulset::stateful_set(cluster, &config),
            members_service: member::service::members(cluster),
            client_service: member::service::client(cluster),
            member_budget: member::pdb::budget(cluster),
            config,
            etcd,
        }
    }
}

/// Name, namespace, labels and owner of a child.
fn metadata(cluster: &Cluster, name: String, component: labels::Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels::labels(&cluster.name, component)),
        owner_references: cluster.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// A cluster for the builders' tests: minimal YAML, run through the real validation.
#[cfg(test)]
pub(crate) fn example(spec: &str) -> Cluster {
    let text = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: CacheCluster\n\
         metadata: {{name: shop, namespace: prod, uid: u1}}\nspec: {spec}\n"
    );
    let cluster = serde_saphyr::from_str(&text).expect("valid YAML");
    super::validate::validate(&cluster, &super::validate::Images::default()).expect("valid")
}
