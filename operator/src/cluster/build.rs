//! Owns every object that a CacheCluster is made of, as pure functions of a validated [`Cluster`]:
//! one file and one test per object. They use no client and read no clock, so the same cluster
//! always gives the same objects, and a settled cluster causes no writes.

pub mod etcd;
pub mod member;
mod metadata;
pub mod monitoring;
pub mod node_config;
pub mod pod;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

pub use self::member::secret::credentials;
pub use self::node_config::node_config;
use super::validate::{Cluster, Etcd};

/// The objects of a CacheCluster that follow from its spec alone. The etcd members are not here:
/// which of them may exist, and how each starts, depends on what is observed, so each is built from
/// the plan with [`etcd::stateful_set`].
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// The members' configuration file.
    pub config: ConfigMap,
    /// Gives each member a host name, for ring-aware clients and sidecars.
    pub members_service: Service,
    /// Balances the requests of other clients.
    pub client_service: Service,
    /// Limits evictions of members.
    pub member_budget: PodDisruptionBudget,
    /// The Services and the budget of a managed etcd.
    pub etcd: Option<EtcdObjects>,
    /// The members. Applied last, so that what their pods mount exists.
    pub members: StatefulSet,
}

/// The objects of a managed etcd that its members share.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdObjects {
    /// Gives each etcd member a host name, for the other members.
    pub peers_service: Service,
    /// Leads the cache's members to the voters that are ready.
    pub client_service: Service,
    /// Protects the quorum; none for a single member.
    pub budget: Option<PodDisruptionBudget>,
}

impl Objects {
    /// Builds the objects of `cluster`.
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
