//! Owns the reading of Secrets, always by name: the operator reads none that nobody names to it.
//!
//! It may have no right to: an operator of the whole Kubernetes cluster is given Secrets one
//! namespace at a time. That is an observation like any other, and never keeps a CacheCluster from
//! being made. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use larder_runtime::tls::{Identity, Pem};

use super::Error;
use crate::api::cluster::ExternalEtcdSpec;
use crate::api::{CacheGroup, SecretKeyReference};
use crate::etcd::{self, Access, Endpoint};

/// A Secret that was asked for by name.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// It is there.
    Found(Box<Secret>),
    /// There is none of that name.
    Missing,
    /// The operator has no right to read it.
    Forbidden,
}

impl Named {
    /// The Secret, if it is there and may be read.
    #[must_use]
    pub fn found(self) -> Option<Secret> {
        match self {
            Self::Found(secret) => Some(*secret),
            Self::Missing | Self::Forbidden => None,
        }
    }
}

/// Why the certificates of an external etcd cannot be had.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is no Secret {0}; create it with ca.crt, and tls.crt with tls.key")]
    Missing(String),
    #[error("the operator may not read the Secret {0}")]
    Forbidden(String),
    #[error("the Secret {0} has no ca.crt, or only one of tls.crt and tls.key")]
    Incomplete(String),
    #[error(transparent)]
    Unread(Error),
}

/// Reads one Secret.
///
/// # Errors
/// When the API server does not answer.
pub async fn named(client: &Client, namespace: &str, name: &str) -> Result<Named, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(Named::Found(Box::new(secret))),
        Ok(None) => Ok(Named::Missing),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Named::Forbidden),
        Err(source) => Err(Error::Secret { name: name.into(), source }),
    }
}

/// The Secret of each group that names one; none for one that is missing or may not be read.
pub(super) async fn of_groups(
    client: &Client,
    namespace: &str,
    groups: &[CacheGroup],
) -> Result<BTreeMap<String, Option<Secret>>, Error> {
    let names: BTreeSet<&str> =
        groups.iter().filter_map(url_secret).map(|reference| reference.name.as_str()).collect();
    let read = names.into_iter().map(|name| async move {
        Ok((name.to_owned(), named(client, namespace, name).await?.found()))
    });
    join_all(read).await.into_iter().collect()
}

/// The Secret in which a group's connection URL stands.
#[must_use]
pub fn url_secret(group: &CacheGroup) -> Option<&SecretKeyReference> {
    group.spec.origin.sql.as_ref().map(|sql| &sql.url_secret_ref)
}

/// How to reach an external etcd.
///
/// # Errors
/// When its certificates cannot be had, as etcd's own failure: it is told where that is told.
pub async fn external_access(
    client: &Client,
    namespace: &str,
    external: &ExternalEtcdSpec,
) -> Result<Access, etcd::Error> {
    let tls = match &external.tls_secret_ref {
        Some(secret) => {
            let read = certificates(client, namespace, &secret.name).await;
            Some(read.map_err(|error| etcd::Error::Tls(Box::new(error)))?.into())
        }
        None => None,
    };
    let endpoints = external.endpoints.iter().map(|url| Endpoint { url: url.clone() });
    Ok(Access { endpoints: endpoints.collect(), tls })
}

async fn certificates(client: &Client, namespace: &str, name: &str) -> Result<Pem, Unusable> {
    match named(client, namespace, name).await.map_err(Unusable::Unread)? {
        Named::Missing => Err(Unusable::Missing(name.into())),
        Named::Forbidden => Err(Unusable::Forbidden(name.into())),
        Named::Found(secret) => pem(*secret).ok_or_else(|| Unusable::Incomplete(name.into())),
    }
}

/// The certificates in a Secret of the form that `tlsSecretRef` asks for.
fn pem(secret: Secret) -> Option<Pem> {
    let mut data = secret.data.unwrap_or_default();
    let mut file = |key: &str| data.remove(key).map(|bytes| bytes.0);
    let identity = match (file("tls.crt"), file("tls.key")) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return None,
    };
    Some(Pem { ca: file("ca.crt")?, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &[&str]) -> Option<(bool, bool)> {
        let data = keys.iter().map(|key| ((*key).to_owned(), k8s_openapi::ByteString(vec![1])));
        let pem = pem(Secret { data: Some(data.collect()), ..Secret::default() })?;
        Some((!pem.ca.is_empty(), pem.identity.is_some()))
    }

    #[test]
    fn certificates_are_whole_or_none() {
        assert_eq!(read(&["ca.crt"]), Some((true, false)));
        assert_eq!(read(&["ca.crt", "tls.crt", "tls.key"]), Some((true, true)));
        assert_eq!(read(&["ca.crt", "tls.crt"]), None);
        assert_eq!(read(&["tls.crt", "tls.key"]), None);
        assert_eq!(read(&[]), None);
    }
}
