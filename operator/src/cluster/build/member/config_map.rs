//! Owns the ConfigMap with the members' configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::super::labels::Component;
use super::super::{metadata, names, node_config};
use crate::cluster::validate::Cluster;

/// The ConfigMap.
#[must_use]
pub fn config_map(cluster: &Cluster) -> ConfigMap {
    let file = serde_json::to_string_pretty(&node_config(cluster))
        .expect("a struct of text and numbers is always JSON");
    ConfigMap {
        metadata: metadata(cluster, names::config_map(&cluster.name), Component::Member),
        data: Some(BTreeMap::from([(node_config::CONFIG_FILE.into(), file)])),
        ..ConfigMap::default()
    }
}

/// Sixteen hexadecimal digits that change exactly when the file does. Everything in the file is
/// read once, at start, so a change restarts the members.
#[must_use]
pub fn hash(config: &ConfigMap) -> String {
    let mut digest = Sha256::new();
    for (name, text) in config.data.iter().flatten() {
        digest.update(name);
        digest.update([0]);
        digest.update(text);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::example;
    use super::*;

    #[test]
    fn hash_follows_the_file_and_nothing_else() {
        let one = config_map(&example("{memory: 512Mi}"));
        assert_eq!(hash(&one), hash(&config_map(&example("{memory: 512Mi, members: 5}"))));
        assert_ne!(hash(&one), hash(&config_map(&example("{memory: 513Mi}"))));
        assert_eq!(hash(&one).len(), 16);
    }

    #[test]
    fn file_is_a_member_configuration() {
        let map = config_map(&example("{memory: 512Mi}"));
        assert_eq!(map.metadata.name.as_deref(), Some("shop-config"));
        let file = &map.data.expect("has data")["node.json"];
        serde_json::from_str::<larder_proto::config::NodeConfig>(file).expect("valid");
    }
}
