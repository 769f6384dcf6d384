//! Identities in certificates: which cluster a process belongs to, and what it is there.
//!
//! A certificate carries its identity as one URI among its subject alternative names:
//! `larder://<namespace>/<cluster>/<role>`. Only a certificate that the cluster's authority signed
//! proves it, so the authority of one cluster cannot speak for another.

use std::fmt;
use std::str::FromStr;

/// The scheme of an identity's URI, with its separator.
const SCHEME: &str = "larder://";

/// What a certificate proves about the process that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Namespace of the CacheCluster.
    pub namespace: String,
    /// Name of the CacheCluster.
    pub cluster: String,
    /// What the process may be taken for in that cluster.
    pub role: Role,
}

/// The part that a process plays in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// A cache member: may call the peer protocol.
    Member,
    /// The operator.
    Operator,
    /// An application or a person, by name.
    Client(String),
}

/// A URI that is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an identity: expected larder://NAMESPACE/CLUSTER/member, …/operator or \
     …/client/NAME"
)]
pub struct InvalidIdentity(pub String);

impl Identity {
    /// The identity of a certificate, by its URI names. `None` if none of them has the scheme of an
    /// identity.
    ///
    /// # Errors
    /// A name of that scheme is not an identity, or there are several: a certificate is that of
    /// one process.
    pub fn of_certificate(uri_names: &[String]) -> Result<Option<Self>, InvalidIdentity> {
        let mut identities = uri_names.iter().filter(|name| name.starts_with(SCHEME));
        let Some(first) = identities.next() else { return Ok(None) };
        match identities.next() {
            Some(second) => Err(InvalidIdentity(format!("{first} and {second}"))),
            None => first.parse().map(Some),
        }
    }

    /// The DNS name in every member's certificate of the identity's cluster.
    #[must_use]
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.cluster, self.namespace)
    }

    /// True for a process of this cluster, whatever its role.
    #[must_use]
    pub fn is_of(&self, namespace: &str, cluster: &str) -> bool {
        self.namespace == namespace && self.cluster == cluster
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/", self.namespace, self.cluster)?;
        match &self.role {
            Role::Member => f.write_str("member"),
            Role::Operator => f.write_str("operator"),
            Role::Client(name) => write!(f, "client/{name}"),
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    /// # Errors
    /// The text has another scheme, an empty part, or an unknown role.
    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidIdentity(uri.to_owned());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(invalid());
        }
        let (namespace, cluster, role) = match parts[..] {
            [namespace, cluster, "member"] => (namespace, cluster, Role::Member),
            [namespace, cluster, "operator"] => (namespace, cluster, Role::Operator),
            [namespace, cluster, "client", name] => {
                (namespace, cluster, Role::Client(name.to_owned()))
            }
            _ => return Err(invalid()),
        };
        Ok(Self { namespace: namespace.to_owned(), cluster: cluster.to_owned(), role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri_and_nothing_else_is_one() {
        for uri in [
            "larder://shop/cache/member",
            "larder://shop/cache/operator",
            "larder://shop/cache/client/checkout",
        ] {
            let identity: Identity = uri.parse().expect("an identity");
            assert_eq!(identity.to_string(), uri);
        }
        for uri in [
            "",
            "https://shop/cache/member",
            "larder://shop/cache",
            "larder://shop//member",
            "larder://shop/cache/admin",
            "larder://shop/cache/client",
            "larder://shop/cache/client/",
            "larder://shop/cache/member/more",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(InvalidIdentity(uri.into())));
        }
    }

    #[test]
    fn a_certificate_has_at_most_one_identity() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            Identity::of_certificate(&names)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["spiffe://cluster.local/ns/shop/sa/checkout"]), Ok(None));
        let found = of(&["https://a", "larder://shop/cache/member"]).expect("valid");
        let member = found.expect("an identity");
        assert_eq!(
            (member.role.clone(), member.server_name()),
            (Role::Member, "cache.shop.svc".into())
        );
        assert!(member.is_of("shop", "cache") && !member.is_of("cache", "shop"));
        of(&["larder://shop/cache/member", "larder://shop/cache/operator"]).expect_err("two");
        of(&["larder://shop/cache/king"]).expect_err("an unknown role");
    }
}
