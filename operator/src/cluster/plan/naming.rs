//! Owns the names and peer URLs of the members of one managed etcd cluster.

use crate::cluster::names;
use crate::etcd::Record;

const SCHEME: &str = "http://";

/// Names and peer URLs of the members of one managed etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    namespace: String,
    cluster: String,
}

impl Naming {
    /// For the CacheCluster `cluster` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, cluster: &str) -> Self {
        Self { namespace: namespace.into(), cluster: cluster.into() }
    }

    /// The member's name for an ordinal.
    #[must_use]
    pub fn name(&self, ordinal: u32) -> String {
        format!("{}{ordinal}", self.prefix())
    }

    /// The ordinal in a member's name; `None` for a name that this operator did not give.
    #[must_use]
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        name.strip_prefix(&self.prefix())?.parse().ok()
    }

    /// URL at which the other members reach `member`.
    #[must_use]
    pub fn peer_url(&self, member: &str) -> String {
        format!("{SCHEME}{member}{}", self.after_name())
    }

    /// What the member list calls a member: its name, or its peer URL when this operator did not
    /// add it.
    #[must_use]
    pub fn name_of(&self, record: &Record) -> String {
        self.name_in(&record.peer_url).unwrap_or_else(|| record.peer_url.clone())
    }

    fn name_in(&self, peer_url: &str) -> Option<String> {
        let name = peer_url.strip_prefix(SCHEME)?.strip_suffix(&self.after_name())?;
        self.ordinal(name).map(|_| name.to_owned())
    }

    fn prefix(&self) -> String {
        format!("{}-", names::etcd(&self.cluster))
    }

    /// What follows the member's name in its peer URL.
    fn after_name(&self) -> String {
        let host = names::etcd_member_host(&self.namespace, &self.cluster, "");
        format!("{host}:{}", names::ETCD_PEER_PORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_from_peer_urls() {
        let naming = Naming::new("prod", "shop");
        let url = naming.peer_url("shop-etcd-7");
        assert_eq!(url, "http://shop-etcd-7-0.shop-etcd-peers.prod.svc:2380");
        assert_eq!(naming.name_in(&url).as_deref(), Some("shop-etcd-7"));
        assert_eq!(naming.name_in("http://elsewhere:2380"), None);
    }
}
