//! Owns what is read before a CacheGroup is judged: itself, its cluster, its Secret, what the
//! members have of its credential, and its key in the registry. It writes nothing and judges
//! nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt};
use larder_proto::keys::Keys;

use crate::api::{CacheCluster, CacheGroup};
use crate::cluster::build::names;
use crate::cluster::observe::ready_endpoints;
use crate::cluster::observe::secrets::{self, Named, external_access, url_secret};
use crate::etcd::{self, Access, Entry, EtcdAdmin};

/// Everything that was read.
#[derive(Debug)]
pub struct Observed {
    /// The CacheGroup as it is now.
    pub group: CacheGroup,
    /// When the reading began.
    pub now: Time,
    /// Whether its cluster exists.
    pub cluster: ClusterState,
    /// Its connection URL.
    pub credential: Credential,
    /// Its key in the registry; its value and revision, or none.
    pub entry: Result<Option<Entry>, etcd::Error>,
    /// Name of the key.
    pub key: String,
    /// Where the registry is.
    pub access: Access,
}

/// Whether the named CacheCluster exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// There is none of that name.
    Missing,
    /// It is there but cannot be read, or is being deleted.
    Unusable,
    /// It is there.
    Exists,
}

/// The connection URL that a group names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// It names none.
    NotNeeded,
    /// The Secret does not exist.
    NoSecret {
        /// Its name.
        name: String,
    },
    /// The operator has no right to the Secret.
    Forbidden {
        /// Its name.
        name: String,
    },
    /// The Secret has no such key.
    NoKey {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// It is there.
    Found {
        /// The members' Secret has it too.
        delivered: bool,
    },
}

/// Why the world could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object could not be read.
    #[error("the {kind} {name} could not be read")]
    Read {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A Secret could not be read.
    #[error("the credential could not be read")]
    Credential(#[source] crate::cluster::observe::Error),
    /// The way to the registry could not be found.
    #[error("the way to the registry could not be found")]
    Registry(#[source] crate::cluster::observe::Error),
}

/// Reads everything; nothing when the CacheGroup is gone.
///
/// # Errors
/// When the API server does not answer.
pub async fn observe(
    client: &Client,
    admin: &dyn EtcdAdmin,
    namespace: &str,
    name: &str,
) -> Result<Option<Observed>, Error> {
    let now = Time(Timestamp::now());
    let groups: Api<CacheGroup> = Api::namespaced(client.clone(), namespace);
    let group = groups.get_opt(name).await.map_err(of("CacheGroup", name))?;
    let Some(group) = group else { return Ok(None) };
    let cluster_name = group.spec.cluster_ref.name.clone();
    let clusters: Api<DeserializeGuard<CacheCluster>> = Api::namespaced(client.clone(), namespace);
    let read = clusters.get_opt(&cluster_name).await.map_err(of("CacheCluster", &cluster_name))?;
    let (cluster, spec) = match read {
        None => (ClusterState::Missing, None),
        Some(DeserializeGuard(Ok(cluster))) if cluster.metadata.deletion_timestamp.is_none() => {
            (ClusterState::Exists, Some(cluster.spec))
        }
        Some(_) => (ClusterState::Unusable, None),
    };
    let credential = credential(client, namespace, &group, &cluster_name).await?;
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
    cluster: &str,
) -> Result<Credential, Error> {
    let Some(reference) = url_secret(group) else { return Ok(Credential::NotNeeded) };
    let (name, key) = (reference.name.clone(), reference.key.clone());
    let read = |name: String| async move {
        secrets::named(client, namespace, &name).await.map_err(Error::Credential)
    };
    let secret = match read(name.clone()).await? {
        Named::Missing => return Ok(Credential::NoSecret { name }),
        Named::Forbidden => return Ok(Credential::Forbidden { name }),
        Named::Found(secret) => secret,
    };
    let Some(url) = secret.data.unwrap_or_default().remove(&key) else {
        return Ok(Credential::NoKey { name, key });
    };
    let delivered = read(names::credentials(cluster)).await?.found();
    let files = delivered.and_then(|secret| secret.data).unwrap_or_default();
    let file = names::credential_file(&group.name_any());
    Ok(Credential::Found { delivered: files.get(&file) == Some(&url) })
}

fn of(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Read { kind, name, source }
}
