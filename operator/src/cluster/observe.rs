//! Owns what is read before anything is decided: the CacheCluster itself, its children, its groups,
//! the Secrets that they name, what etcd says and what stands in the registry.
//!
//! It reads from the API server and from etcd, never from a cache: a decision about members must
//! not rest on an old list. It writes nothing and judges nothing.

pub mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use futures::try_join;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use larder_proto::keys::Keys;
use serde::de::DeserializeOwned;

use self::secrets::Named;
use super::build::{labels, names};
use crate::api::{CacheCluster, CacheGroup};
use crate::etcd::{self, Access, Answer, Endpoint, EtcdAdmin, Listing};

/// Everything that was read.
#[derive(Debug)]
pub struct Observed {
    /// The CacheCluster as it is now.
    pub cluster: CacheCluster,
    /// When the reading began.
    pub now: Time,
    /// Objects that carry the cluster's label.
    pub children: Children,
    /// What etcd says.
    pub etcd: EtcdObserved,
    /// What stands in the registry, or why that is not known. Read before the groups, so that a key
    /// whose group is not among them belongs to a group that was deleted.
    pub registry: Result<Listing, etcd::Error>,
    /// The CacheGroups of this cluster that can be read.
    pub groups: Vec<CacheGroup>,
    /// Names of CacheGroups that cannot be read; whatever they mean, it is not to be deleted.
    pub unreadable_groups: BTreeSet<String>,
    /// Secrets that groups name; none for one that does not exist or may not be read.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

/// Objects that carry the cluster's label.
#[derive(Debug, Default)]
pub struct Children {
    /// The members' and each etcd member's.
    pub stateful_sets: Vec<StatefulSet>,
    /// All Services.
    pub services: Vec<Service>,
    /// All ConfigMaps.
    pub config_maps: Vec<ConfigMap>,
    /// The credentials.
    pub secrets: Vec<Secret>,
    /// The operator has no right to Secrets here, so it keeps no credentials.
    pub secrets_forbidden: bool,
    /// All PodDisruptionBudgets.
    pub budgets: Vec<PodDisruptionBudget>,
    /// The members' and etcd's.
    pub pods: Vec<Pod>,
    /// etcd's volumes.
    pub claims: Vec<PersistentVolumeClaim>,
}

/// What etcd says.
#[derive(Debug, Default)]
pub struct EtcdObserved {
    /// What each managed member that answers says, by the name of its pod.
    pub answers: BTreeMap<String, Answer>,
    /// Where changes are asked for: voters that answer, the leader first; or the external
    /// endpoints.
    pub access: Access,
}

/// Why the world could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CacheCluster.
    #[error("the CacheCluster could not be read")]
    Cluster(#[source] kube::Error),
    /// The children of one kind.
    #[error("{kind} objects could not be listed")]
    List {
        /// The kind.
        kind: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A Secret that is named.
    #[error("the Secret {name} could not be read")]
    Secret {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

/// Reads everything; nothing when the CacheCluster is gone.
///
/// # Errors
/// When the API server does not answer. That etcd does not answer is an observation, not an error.
pub async fn observe(
    client: &Client,
    admin: &dyn EtcdAdmin,
    namespace: &str,
    name: &str,
) -> Result<Option<Observed>, Error> {
    let clusters: Api<CacheCluster> = Api::namespaced(client.clone(), namespace);
    let now = Time(Timestamp::now());
    let Some(cluster) = clusters.get_opt(name).await.map_err(Error::Cluster)? else {
        return Ok(None);
    };
    let children = children(client, namespace, name).await?;
    let access = match &cluster.spec.etcd.external {
        Some(external) => secrets::external_access(client, namespace, external).await,
        None => Ok(Access::default()),
    };
    let (etcd, registry) = match access {
        Err(error) => (EtcdObserved::default(), Err(error)),
        Ok(access) => {
            let etcd = if cluster.spec.etcd.external.is_some() {
                EtcdObserved { access, ..EtcdObserved::default() }
            } else {
                ask_managed(admin, &children.pods).await
            };
            let keys = Keys::new(namespace, name);
            let registry = read_registry(admin, &etcd.access, &keys).await;
            (etcd, registry)
        }
    };
    let (groups, unreadable_groups) = groups(client, namespace, name).await?;
    let secrets = secrets::of_groups(client, namespace, &groups).await?;
    Ok(Some(Observed {
        cluster,
        now,
        children,
        etcd,
        registry,
        groups,
        unreadable_groups,
        secrets,
    }))
}

async fn children(client: &Client, namespace: &str, name: &str) -> Result<Children, Error> {
    let selector = labels::owned_by(name);
    let credentials = names::credentials(name);
    let (stateful_sets, services, config_maps, secrets, budgets, pods, claims) = try_join!(
        list::<StatefulSet>(client, namespace, &selector),
        list::<Service>(client, namespace, &selector),
        list::<ConfigMap>(client, namespace, &selector),
        // Only ours by name: the operator reads no Secret that nobody names to it.
        secrets::named(client, namespace, &credentials),
        list::<PodDisruptionBudget>(client, namespace, &selector),
        list::<Pod>(client, namespace, &selector),
        list::<PersistentVolumeClaim>(client, namespace, &selector),
    )?;
    Ok(Children {
        stateful_sets,
        services,
        config_maps,
        secrets_forbidden: secrets == Named::Forbidden,
        secrets: secrets.found().into_iter().collect(),
        budgets,
        pods,
        claims,
    })
}

async fn list<K>(client: &Client, namespace: &str, selector: &str) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default().labels(selector)).await;
    let list = listed.map_err(|source| Error::List { kind: K::KIND, source })?;
    Ok(list.items)
}

/// Asks every etcd pod that has an address, by address: a name may still be unknown to DNS.
async fn ask_managed(admin: &dyn EtcdAdmin, pods: &[Pod]) -> EtcdObserved {
    let asked = etcd_endpoints(pods).map(|(pod, endpoint)| async move {
        let answer = admin.probe(&endpoint, None).await;
        (pod, endpoint, answer)
    });
    let mut answers = BTreeMap::new();
    let mut voters: Vec<(bool, Endpoint)> = Vec::new();
    for (pod, endpoint, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => {
                if !answer.learner {
                    voters.push((answer.leader != answer.member_id, endpoint));
                }
                answers.insert(pod, answer);
            }
            Err(error) => tracing::debug!(pod, %error, "etcd member does not answer"),
        }
    }
    voters.sort();
    let endpoints = voters.into_iter().map(|(_, endpoint)| endpoint).collect();
    EtcdObserved { answers, access: Access { endpoints, tls: None } }
}

/// Name and client endpoint of each etcd pod that has an address.
fn etcd_endpoints(pods: &[Pod]) -> impl Iterator<Item = (String, Endpoint)> + '_ {
    pods.iter().filter(|pod| pod.labels().contains_key(labels::ETCD_MEMBER)).filter_map(|pod| {
        let address = pod.status.as_ref()?.pod_ip.as_ref()?;
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        let url = format!("http://{host}:{}", super::build::etcd::CLIENT_PORT);
        Some((pod.name_any(), Endpoint { url }))
    })
}

/// The client endpoints of managed etcd members that are ready, which only voters with a quorum
/// are.
///
/// # Errors
/// When the pods cannot be listed.
pub async fn ready_endpoints(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> Result<Vec<Endpoint>, Error> {
    let selector = labels::selector_text(cluster, labels::Component::Etcd);
    let mut pods: Vec<Pod> = list(client, namespace, &selector).await?;
    pods.retain(is_ready);
    Ok(etcd_endpoints(&pods).map(|(_, endpoint)| endpoint).collect())
}

/// The condition `Ready` of a pod that is not being deleted.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn read_registry(
    admin: &dyn EtcdAdmin,
    access: &Access,
    keys: &Keys,
) -> Result<Listing, etcd::Error> {
    if access.endpoints.is_empty() {
        return Err(etcd::Error::Nobody);
    }
    admin.list(access, keys.root()).await
}

async fn groups(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> Result<(Vec<CacheGroup>, BTreeSet<String>), Error> {
    let api: Api<DeserializeGuard<CacheGroup>> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default()).await;
    let list = listed.map_err(|source| Error::List { kind: "CacheGroup", source })?;
    let (mut groups, mut unreadable) = (Vec::new(), BTreeSet::new());
    for DeserializeGuard(read) in list {
        match read {
            Ok(group) if group.spec.cluster_ref.name == cluster => groups.push(group),
            Ok(_) => {}
            Err(invalid) => unreadable.extend(invalid.metadata.name),
        }
    }
    Ok((groups, unreadable))
}
