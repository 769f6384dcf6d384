//! Owns what is read before anything is decided: the CacheCluster itself, its children, its groups,
//! the Secrets that they name, the status of etcd's members and the content of the registry.
//!
//! It reads from the API server and from etcd, never from a local cache: a decision about members
//! must not use an old list. It writes nothing and decides nothing.

pub mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{TryFutureExt as _, join_all};
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

use self::secrets::SecretLookup;
use super::pods::is_ready;
use super::{labels, names};
use crate::api::{CacheCluster, CacheGroup};
use crate::etcd::{self, Access, Endpoint, EtcdAdmin, Listing, MemberStatus};

/// Everything that was read for one reconcile.
#[derive(Debug)]
pub struct Observed {
    /// The CacheCluster as it is now.
    pub cluster: CacheCluster,
    /// When the reading began.
    pub now: Time,
    /// Objects that carry the cluster's label.
    pub children: Children,
    /// etcd's members and how to reach them.
    pub etcd: EtcdObserved,
    /// The content of the registry, or why it could not be read. Read before the groups, so that a
    /// key without a group belongs to a group that was deleted.
    pub registry: Result<Listing, etcd::Error>,
    /// The CacheGroups of this cluster that can be read.
    pub groups: Vec<CacheGroup>,
    /// Names of CacheGroups that cannot be decoded. Their keys and credentials must not be deleted.
    pub unreadable_groups: BTreeSet<String>,
    /// Secrets that groups name; none for one that does not exist or that the operator cannot read.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

/// Objects that carry the cluster's label.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "most fields are the objects of the kind in their name")]
pub struct Children {
    pub stateful_sets: Vec<StatefulSet>,
    pub services: Vec<Service>,
    pub config_maps: Vec<ConfigMap>,
    pub secrets: Vec<Secret>,
    /// The operator has no right to read Secrets here, so it writes no credentials.
    pub secrets_forbidden: bool,
    pub budgets: Vec<PodDisruptionBudget>,
    pub pods: Vec<Pod>,
    pub claims: Vec<PersistentVolumeClaim>,
}

/// etcd's members and how to reach them.
#[derive(Debug, Default)]
pub struct EtcdObserved {
    /// Status of each managed member that answers, by the name of its pod.
    pub members: BTreeMap<String, MemberStatus>,
    /// Where changes are sent: voters that answer, the leader first; or the external endpoints.
    pub access: Access,
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("the CacheCluster could not be read")]
    Cluster(#[source] kube::Error),
    #[error("{kind} objects could not be listed")]
    List { kind: &'static str, source: kube::Error },
    #[error(transparent)]
    Secret(#[from] secrets::Error),
}

/// Reads everything; `None` when the CacheCluster does not exist.
///
/// # Errors
/// When a request to the API server fails. An etcd that does not answer is an observation, not an
/// error.
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
                probe_managed(admin, &children.pods).await
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
        // By name: the operator lists no Secrets.
        secrets::look_up(client, namespace, &credentials).map_err(Error::Secret),
        list::<PodDisruptionBudget>(client, namespace, &selector),
        list::<Pod>(client, namespace, &selector),
        list::<PersistentVolumeClaim>(client, namespace, &selector),
    )?;
    Ok(Children {
        stateful_sets,
        services,
        config_maps,
        secrets_forbidden: secrets == SecretLookup::Forbidden,
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

/// Probes every etcd pod at its IP address: DNS may not know its host name yet.
async fn probe_managed(admin: &dyn EtcdAdmin, pods: &[Pod]) -> EtcdObserved {
    let probes = etcd_endpoints(pods).map(|(pod, endpoint)| async move {
        let status = admin.probe(&endpoint, None).await;
        (pod, endpoint, status)
    });
    let mut members = BTreeMap::new();
    let mut voters: Vec<(bool, Endpoint)> = Vec::new();
    for (pod, endpoint, status) in join_all(probes).await {
        match status {
            Ok(status) => {
                if !status.learner {
                    voters.push((status.leader != status.member_id, endpoint));
                }
                members.insert(pod, status);
            }
            Err(error) => tracing::debug!(pod, %error, "etcd member does not answer"),
        }
    }
    voters.sort();
    let endpoints = voters.into_iter().map(|(_, endpoint)| endpoint).collect();
    EtcdObserved { members, access: Access { endpoints, tls: None } }
}

/// Name and client endpoint of each etcd pod that has an IP address.
fn etcd_endpoints(pods: &[Pod]) -> impl Iterator<Item = (String, Endpoint)> + '_ {
    pods.iter().filter(|pod| pod.labels().contains_key(labels::ETCD_MEMBER)).filter_map(|pod| {
        let address = pod.status.as_ref()?.pod_ip.as_ref()?;
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        let url = format!("http://{host}:{}", names::ETCD_CLIENT_PORT);
        Some((pod.name_any(), Endpoint { url }))
    })
}

/// The client endpoints of managed etcd members that are ready. Only voters with a quorum are.
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

async fn read_registry(
    admin: &dyn EtcdAdmin,
    access: &Access,
    keys: &Keys,
) -> Result<Listing, etcd::Error> {
    if access.endpoints.is_empty() {
        return Err(etcd::Error::NoEndpoint);
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
