//! The keys in the registry: one prefix per cluster with members, their successions and groups
//! below it.

/// The registry keys of one cluster.
///
/// ```
/// let keys = larder_proto::keys::Keys::new("prod", "shop");
/// assert_eq!(keys.member("shop-0"), "/larder/prod/shop/members/shop-0");
/// assert_eq!(keys.group("students"), "/larder/prod/shop/groups/students");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// The keys of the CacheCluster `cluster` in `namespace`. Neither contains a slash, because
    /// both are Kubernetes names.
    #[must_use]
    pub fn new(namespace: &str, cluster: &str) -> Self {
        Self { root: format!("/larder/{namespace}/{cluster}/") }
    }

    /// Prefix of all keys of the cluster. A watch on it delivers changes of members and groups in
    /// one order.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Prefix of the members' keys. etcd's own naming clients read it with the target
    /// `/larder/<namespace>/<cluster>/members`.
    #[must_use]
    pub fn members(&self) -> String {
        format!("{}members/", self.root)
    }

    /// Key of one member. `name` is the name of its pod in the StatefulSet.
    #[must_use]
    pub fn member(&self, name: &str) -> String {
        format!("{}members/{name}", self.root)
    }

    /// Key of the [`Succession`](crate::registry::Succession) of one member's name.
    #[must_use]
    pub fn succession(&self, name: &str) -> String {
        format!("{}succession/{name}", self.root)
    }

    /// Prefix of the groups' keys.
    #[must_use]
    pub fn groups(&self) -> String {
        format!("{}groups/", self.root)
    }

    /// Key of one group's contract.
    #[must_use]
    pub fn group(&self, name: &str) -> String {
        format!("{}groups/{name}", self.root)
    }

    /// Parses a key. Returns `None` if it is no member or group of this cluster.
    #[must_use]
    pub fn parse<'k>(&self, key: &'k str) -> Option<ParsedKey<'k>> {
        let relative = key.strip_prefix(&self.root)?;
        match relative.split_once('/')? {
            ("members", name) if !name.is_empty() => Some(ParsedKey::Member(name)),
            ("groups", name) if !name.is_empty() => Some(ParsedKey::Group(name)),
            _ => None,
        }
    }
}

/// The member or group that a key belongs to, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the two kinds of keys")]
pub enum ParsedKey<'k> {
    Member(&'k str),
    Group(&'k str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_is_the_inverse_of_member_and_group() {
        let keys = Keys::new("prod", "shop");
        assert_eq!(keys.parse(&keys.member("shop-0")), Some(ParsedKey::Member("shop-0")));
        assert_eq!(keys.parse(&keys.group("students")), Some(ParsedKey::Group("students")));
        assert_eq!(keys.parse(&keys.succession("shop-0")), None, "no member");
    }

    #[test]
    fn keys_of_other_clusters_and_incomplete_keys_are_not_parsed() {
        let keys = Keys::new("prod", "shop");
        for key in ["/larder/prod/shop2/members/x", "/larder/prod/shop/members/", "/other", ""] {
            assert_eq!(keys.parse(key), None, "{key}");
        }
    }
}
