//! Owns the labels of child objects and the selectors made from them. No label contains a version:
//! an upgrade of the operator would restart every pod.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Label with the CacheCluster that an object belongs to.
pub const CLUSTER: &str = "larder.dev/cluster";
/// Label with the etcd member that a StatefulSet, a pod or a volume belongs to.
pub const ETCD_MEMBER: &str = "larder.dev/etcd-member";
/// Value of the label `app.kubernetes.io/managed-by`, and the name of the field manager.
pub const MANAGER: &str = "larder-operator";

/// The part of a cluster that an object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the label `app.kubernetes.io/component`")]
pub enum Component {
    Member,
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

/// All labels of an object.
#[must_use]
pub fn labels(cluster: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(cluster, component);
    labels.insert("app.kubernetes.io/managed-by".into(), MANAGER.into());
    labels.insert("app.kubernetes.io/instance".into(), cluster.into());
    labels
}

/// The labels that select the pods of a component. A StatefulSet's selector cannot be changed, so
/// they never change.
#[must_use]
pub fn selector(cluster: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".into(), "larder".into()),
        ("app.kubernetes.io/component".into(), component.name().into()),
        (CLUSTER.into(), cluster.into()),
    ])
}

/// [`selector`] as a selector object.
#[must_use]
pub fn label_selector(cluster: &str, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(cluster, component)), ..LabelSelector::default() }
}

/// [`selector`] as text, for list requests and the scale subresource.
#[must_use]
pub fn selector_text(cluster: &str, component: Component) -> String {
    let pairs: Vec<_> =
        selector(cluster, component).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// Selects every object of a CacheCluster, of either component.
#[must_use]
pub fn owned_by(cluster: &str) -> String {
    format!("{CLUSTER}={cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_part_of_the_labels_and_differs_between_components() {
        let member = selector("shop", Component::Member);
        let labels = labels("shop", Component::Member);
        assert!(member.iter().all(|(key, value)| labels.get(key) == Some(value)));
        assert_ne!(member, selector("shop", Component::Etcd));
        assert_eq!(
            selector_text("shop", Component::Etcd),
            "app.kubernetes.io/component=etcd,app.kubernetes.io/name=larder,larder.dev/cluster=shop"
        );
    }

    #[test]
    fn no_label_contains_the_operators_version() {
        for value in labels("shop", Component::Member).values() {
            assert!(!value.contains(env!("CARGO_PKG_VERSION")), "{value}");
        }
    }
}
