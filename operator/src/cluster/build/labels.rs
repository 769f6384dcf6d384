//! Owns the labels of child objects and the selectors made of them. No label holds a version: an
//! update of the operator would restart every pod.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Names the CacheCluster that an object belongs to.
pub const CLUSTER: &str = "larder.dev/cluster";
/// Names the etcd member that a pod, a volume or a StatefulSet stands for.
pub const ETCD_MEMBER: &str = "larder.dev/etcd-member";
/// What the field `app.kubernetes.io/managed-by` says, and the field manager's name.
pub const MANAGER: &str = "larder-operator";

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The members.
    Member,
    /// The managed etcd.
    Etcd,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Etcd => "etcd",
        }
    }
}

/// Labels of an object.
#[must_use]
pub fn labels(cluster: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, component);
    labels.insert("app.kubernetes.io/managed-by".into(), MANAGER.into());
    labels.insert("app.kubernetes.io/instance".into(), cluster.into());
    labels
}

/// The labels by which the pods of a component are found; they never change.
#[must_use]
pub fn selector(cluster: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), "larder".into()),
        ("app.kubernetes.io/component".into(), component.name().into()),
        (CLUSTER.into(), cluster.into()),
    ])
}

/// The same as a selector object.
#[must_use]
pub fn label_selector(cluster: &str, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(cluster, component)), ..LabelSelector::default() }
}

/// The same as text, for lists and for the scale subresource.
#[must_use]
pub fn selector_text(cluster: &str, component: Component) -> String {
    let pairs: Vec<_> =
        selector(cluster, component).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// Selects every object of a CacheCluster, whatever it is for.
#[must_use]
pub fn owned_by(cluster: &str) -> String {
    format!("{CLUSTER}={cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_is_part_of_the_labels_and_tells_components_apart() {
        let member = selector("shop", Component::Member);
        let all = labels("shop", Component::Member);
        assert!(member.iter().all(|(key, value)| all.get(key) == Some(value)));
        assert_ne!(member, selector("shop", Component::Etcd));
        assert_eq!(
            selector_text("shop", Component::Etcd),
            "app.kubernetes.io/component=etcd,app.kubernetes.io/name=larder,larder.dev/cluster=shop"
        );
    }

    #[test]
    fn no_label_changes_with_the_operators_version() {
        for value in labels("shop", Component::Member).values() {
            assert!(!value.contains(env!("CARGO_PKG_VERSION")), "{value}");
        }
    }
}
