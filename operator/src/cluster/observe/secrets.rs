//! Owns the reading of Secrets, always by name: the operator reads only those that a resource
//! names.
//!
//! The operator may have no right to read them: a cluster-wide operator gets Secrets one namespace
//! at a time. That is an observation like any other and does not stop a reconcile. It writes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use larder_runtime::tls::{Identity, Pem};

use crate::api::CacheGroup;
use crate::api::cluster::ExternalEtcdSpec;
use crate::etcd::{self, Access, Endpoint};

/// The result of reading a Secret by name.
#[derive(Debug, Clone, PartialEq)]
pub enum SecretLookup {
    /// The Secret.
    Found(Box<Secret>),
    /// No Secret has that name.
    Missing,
    /// The operator has no right to read it.
    Forbidden,
}

impl SecretLookup {
    /// The Secret, when it was found.
    #[must_use]
    pub fn found(self) -> Option<Secret> {
        match self {
            Self::Found(secret) => Some(*secret),
            Self::Missing | Self::Forbidden => None,
        }
    }
}

/// Why a Secret could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the Secret {name} could not be read")]
pub struct Error {
    name: String,
    source: kube::Error,
}

/// Why the certificates of an external etcd cannot be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("there is no Secret {0}; create it with ca.crt, and tls.crt with tls.key")]
    Missing(String),
    #[error("the operator is not allowed to read the Secret {0}")]
    Forbidden(String),
    #[error("the Secret {0} has no ca.crt, or only one of tls.crt and tls.key")]
    Incomplete(String),
    #[error(transparent)]
    Read(#[from] Error),
}

/// Reads one Secret.
///
/// # Errors
/// When the API server does not answer.
pub async fn look_up(client: &Client, namespace: &str, name: &str) -> Result<SecretLookup, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(SecretLookup::Found(Box::new(secret))),
        Ok(None) => Ok(SecretLookup::Missing),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(SecretLookup::Forbidden),
        Err(source) => Err(Error { name: name.into(), source }),
    }
}

/// The Secret that each group names; none for one that is missing or forbidden.
pub(super) async fn of_groups(
    client: &Client,
    namespace: &str,
    groups: &[CacheGroup],
) -> Result<BTreeMap<String, Option<Secret>>, Error> {
    let names: BTreeSet<&str> =
        groups.iter().filter_map(CacheGroup::url_secret).map(|named| named.name.as_str()).collect();
    let read = names.into_iter().map(|name| async move {
        Ok((name.to_owned(), look_up(client, namespace, name).await?.found()))
    });
    join_all(read).await.into_iter().collect()
}

/// How to reach an external etcd.
///
/// # Errors
/// When its certificates cannot be used. It is an error of etcd, so that status reports it where it
/// reports an etcd that does not answer.
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

async fn certificates(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Pem, CertificateError> {
    match look_up(client, namespace, name).await? {
        SecretLookup::Missing => Err(CertificateError::Missing(name.into())),
        SecretLookup::Forbidden => Err(CertificateError::Forbidden(name.into())),
        SecretLookup::Found(secret) => {
            pem(*secret).ok_or_else(|| CertificateError::Incomplete(name.into()))
        }
    }
}

/// The certificates in a Secret with the keys that `tlsSecretRef` documents.
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
    fn certificates_are_complete_or_none() {
        assert_eq!(read(&["ca.crt"]), Some((true, false)));
        assert_eq!(read(&["ca.crt", "tls.crt", "tls.key"]), Some((true, true)));
        assert_eq!(read(&["ca.crt", "tls.crt"]), None);
        assert_eq!(read(&["tls.crt", "tls.key"]), None);
        assert_eq!(read(&[]), None);
    }
}
