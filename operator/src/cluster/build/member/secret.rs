//! Owns the Secret with the origins' credentials, one file per group. Members mount it as a volume,
//! so that a new group restarts nothing.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::super::metadata::metadata;
use crate::cluster::labels::Component;
use crate::cluster::names;
use crate::cluster::validate::Cluster;

/// The Secret with the connection URL of each group in `urls`, which maps group names to URLs.
#[must_use]
pub fn credentials(cluster: &Cluster, urls: &BTreeMap<String, Vec<u8>>) -> Secret {
    let files =
        urls.iter().map(|(group, url)| (names::credential_file(group), ByteString(url.clone())));
    Secret {
        metadata: metadata(cluster, names::credentials(&cluster.name), Component::Member),
        type_: Some("Opaque".into()),
        data: Some(files.collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    #[test]
    fn each_group_has_one_file() {
        let urls = BTreeMap::from([("students".into(), b"postgres://db".to_vec())]);
        let secret = credentials(&example("{memory: 512Mi}"), &urls);
        assert_eq!(secret.metadata.name.as_deref(), Some("shop-credentials"));
        assert_eq!(secret.data.expect("has data")["students.url"].0, b"postgres://db");
    }
}
