//! The names of keys in the registry: one prefix a cluster, below it members and groups.

/// The keys of one cluster.
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
    /// The keys of the cluster `cluster` in the namespace `namespace`; neither holds a slash
    /// because both are Kubernetes names.
    #[must_use]
    pub fn new(namespace: &str, cluster: &str) -> Self {
        Self { root: format!("/larder/{namespace}/{cluster}/") }
    }

    /// Everything of the cluster; a watch on this prefix sees members and groups in one order.
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

    /// Key of one member, by the name of its pod (its StatefulSet ordinal).
    #[must_use]
    pub fn member(&self, name: &str) -> String {
        format!("{}members/{name}", self.root)
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

    /// Tells what a key of this cluster names, or nothing for a foreign key.
    #[must_use]
    pub fn parse<'k>(&self, key: &'k str) -> Option<Named<'k>> {
        let rest = key.strip_prefix(&self.root)?;
        match rest.split_once('/')? {
            ("members", name) if !name.is_empty() => Some(Named::Member(name)),
            ("groups", name) if !name.is_empty() => Some(Named::Group(name)),
            _ => None,
        }
    }
}

/// What a key of a cluster names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'k> {
    /// A member, by name.
    Member(&'k str),
    /// A group, by name.
    Group(&'k str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_gives_back_what_was_named() {
        let keys = Keys::new("prod", "shop");
        assert_eq!(keys.parse(&keys.member("shop-0")), Some(Named::Member("shop-0")));
        assert_eq!(keys.parse(&keys.group("students")), Some(Named::Group("students")));
    }

    #[test]
    fn foreign_and_unfinished_keys_name_nothing() {
        let keys = Keys::new("prod", "shop");
        for key in ["/larder/prod/shop2/members/x", "/larder/prod/shop/members/", "/other", ""] {
            assert_eq!(keys.parse(key), None, "{key}");
        }
    }
}
