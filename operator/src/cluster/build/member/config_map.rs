//! Owns the ConfigMap with the members' configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::super::metadata::metadata;
use super::super::node_config;
use crate::cluster::labels::Component;
use crate::cluster::names;
use crate::cluster::validate::Cluster;

/// The ConfigMap with the configuration of every member of `cluster`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    #[test]
    fn only_a_change_of_the_file_changes_its_content() {
        let one = config_map(&example("{memory: 512Mi}"));
        assert_eq!(one.data, config_map(&example("{memory: 512Mi, members: 5}")).data);
        assert_ne!(one.data, config_map(&example("{memory: 513Mi}")).data);
    }

    #[test]
    fn the_file_is_a_member_configuration() {
        let map = config_map(&example("{memory: 512Mi}"));
        assert_eq!(map.metadata.name.as_deref(), Some("shop-config"));
        let file = &map.data.expect("has data")["node.json"];
        serde_json::from_str::<larder_proto::config::NodeConfig>(file).expect("valid");
    }
}
