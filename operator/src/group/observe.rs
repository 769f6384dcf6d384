//! Owns what is read before anything is decided about a CacheGroup: the group itself, its cluster,
//! its Secret, the credential that the members have, and its key in the registry. It writes nothing
//! and decides nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::Keys;

use crate::api::cluster::OriginsSpec;
use crate::api::{CacheCluster, CacheGroup};
use crate::cluster::names;
use crate::cluster::observe::ready_endpoints;
use crate::cluster::observe::secrets::{self, SecretLookup, external_access};
use crate::etcd::{self, Access, Entry, EtcdAdmin};

/// Everything that was read for one reconcile.
#[derive(Debug)]
pub struct Observed {
    /// The CacheGroup as it is now.
    pub group: CacheGroup,
    /// When the reading began.
    pub now: Time,
    /// Whether its cluster exists.
    pub cluster: ClusterState,
    /// The connection URL that it names.
    pub credential: Credential,
    /// Its entry in the registry, if there is one, or why the registry could not be read.
    pub entry: Result<Option<Entry>, etcd::Error>,
    /// Its key in the registry.
    pub key: String,
    /// How to reach the registry.
    pub access: Access,
}

/// Whether the named CacheCluster exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// No CacheCluster has that name.
    Missing,
    /// It cannot be decoded or is being deleted.
    Unusable,
    /// It exists.
    Exists,
}

/// The connection URL that a group names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "`name` is the Secret's, `key` is the key in it")]
pub enum Credential {
    /// The origin needs none.
    NotNeeded,
    /// The Secret does not exist.
    NoSecret { name: String },
    /// The operator has no right to read the Secret.
    Forbidden { name: String },
    /// The Secret exists, but nobody allowed its use as an origin.
    NotAllowed { name: String },
    /// The Secret does not have the key.
    NoKey { name: String, key: String },
    /// It was found. `delivered` says that the members' Secret has it too.
    Found { delivered: bool },
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("the {kind} {name} could not be read")]
    Read { kind: &'static str, name: String, source: kube::Error },
    #[error("the credential could not be read")]
    Credential(#[from] secrets::Error),
    #[error("the endpoints of the registry could not be listed")]
    Registry(#[source] crate::cluster::observe::Error),
}

/// Reads everything; `None` when the CacheGroup does not exist.
///
/// # Errors
/// When a request to the API server fails.
pub async fn observe(
    client: &Client,
    admin: &dyn EtcdAdmin,
    namespace: &str,
    name: &str,
) -> Result<Option<Observed>, Error> {
    let now = Time(Timestamp::now());
    let groups: Api<CacheGroup> = Api::namespaced(client.clone(), namespace);
    let group = groups.get_opt(name).await.map_err(read_error("CacheGroup", name))?;
    let Some(group) = group else { return Ok(None) };
    let cluster_name = group.spec.cluster_ref.name.clone();
    let clusters: Api<DeserializeGuard<CacheCluster>> = Api::namespaced(client.clone(), namespace);
    let read = clusters.get_opt(&cluster_name).await;
    let read = read.map_err(read_error("CacheCluster", &cluster_name))?;
    let (cluster, spec) = match read {
        None => (ClusterState::Missing, None),
        Some(DeserializeGuard(Ok(cluster))) if cluster.metadata.deletion_timestamp.is_none() => {
            (ClusterState::Exists, Some(cluster.spec))
        }
        Some(_) => (ClusterState::Unusable, None),
    };
    let origins = spec.as_ref().map(|spec| spec.origins.clone()).unwrap_or_default();
    let credential = credential(client, namespace, &group, &origins).await?;
    let access = match spec.map(|spec| spec.etcd.external) {
        None => Ok(Access::default()),
        Some(None) => {
            let endpoints = ready_endpoints(client, namespace, &cluster_name).await;
            Ok(Access { endpoints: endpoints.map_err(Error::Registry)?, tls: None })
        }
        Some(Some(external)) => external_access(client, namespace, &external).await,
    };
    let key = Keys::new(namespace, &cluster_name).group(name);
    let (access, listed) = match access {
        Ok(access) => {
            let listed = admin.list(&access, &key).await;
            (access, listed)
        }
        Err(error) => (Access::default(), Err(error)),
    };
    let entry = listed.map(|listing| listing.entries.into_iter().find(|entry| entry.key == key));
    Ok(Some(Observed { group, now, cluster, credential, entry, key, access }))
}

async fn credential(
    client: &Client,
    namespace: &str,
    group: &CacheGroup,
    origins: &OriginsSpec,
) -> Result<Credential, Error> {
    let Some(reference) = group.url_secret() else { return Ok(Credential::NotNeeded) };
    let (name, key) = (reference.name.clone(), reference.key.clone());
    let secret = match secrets::look_up(client, namespace, &name).await? {
        SecretLookup::Missing => return Ok(Credential::NoSecret { name }),
        SecretLookup::Forbidden => return Ok(Credential::Forbidden { name }),
        SecretLookup::Found(secret) if !origins.allows(&secret) => {
            return Ok(Credential::NotAllowed { name });
        }
        SecretLookup::Found(secret) => secret,
    };
    let Some(url) = secret.data.unwrap_or_default().remove(&key) else {
        return Ok(Credential::NoKey { name, key });
    };
    let credentials = names::credentials(&group.spec.cluster_ref.name);
    let members_secret = secrets::look_up(client, namespace, &credentials).await?.found();
    let files = members_secret.and_then(|secret| secret.data).unwrap_or_default();
    let file = names::credential_file(&group.name_any());
    Ok(Credential::Found { delivered: files.get(&file) == Some(&url) })
}

fn read_error(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Read { kind, name, source }
}
