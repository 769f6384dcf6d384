//! Owns every CEL rule of the two resources with the line that a user reads when it fails. A rule
//! stands at the field that it names; `operator/tests/rules.rs` shows each one failing and passing.

/// A CEL expression and its message.
type Rule = (&'static str, &'static str);

pub(super) const CLUSTER_NAME_LENGTH: Rule = (
    "size(self.metadata.name) <= 40",
    "the name may have at most 40 characters, because the names of child objects are made from it",
);

pub(super) const CLUSTER_NAME_FORM: Rule = (
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "the name must begin with a letter and hold only lower-case letters, digits and hyphens, \
     because Services are named after it",
);

pub(super) const MEMORY_MINIMUM: Rule = (
    "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Mi')) >= 0",
    "memory must be at least 64Mi",
);

pub(super) const MEMORY_MAXIMUM: Rule = (
    "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity('1Ti')) <= 0",
    "memory must be at most 1Ti",
);

pub(super) const ETCD_ONE_OF: Rule =
    ("has(self.managed) != has(self.external)", "exactly one of managed and external must be set");

pub(super) const ETCD_KIND_STAYS: Rule = (
    "has(self.managed) == has(oldSelf.managed)",
    "a cluster cannot change between managed and external etcd; make a new CacheCluster",
);

pub(super) const ETCD_STORAGE_STAYS: Rule = (
    "has(self.storage) == has(oldSelf.storage) && \
     (!has(self.storage) || self.storage == oldSelf.storage)",
    "storage cannot be changed after the CacheCluster was made",
);

pub(super) const ETCD_MEMBERS: Rule = ("self == 1 || self == 3", "etcd has 1 or 3 members");

pub(super) const STORAGE_MINIMUM: Rule = (
    "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('256Mi')) >= 0",
    "size must be at least 256Mi",
);

pub(super) const ETCD_TLS: Rule = (
    "self.endpoints.all(e, e.startsWith('https://') == has(self.tlsSecretRef))",
    "https endpoints need tlsSecretRef, http endpoints take none",
);

pub(super) const RING_ALGORITHM: Rule =
    ("!has(self.ring) || self.algorithm == 'Ring'", "ring can be set only with the algorithm Ring");

pub(super) const GROUP_NAME_LENGTH: Rule = (
    "size(self.metadata.name) <= 63",
    "the name may have at most 63 characters, because it travels with every request",
);

pub(super) const CLUSTER_REF_STAYS: Rule =
    ("self == oldSelf", "clusterRef cannot be changed; make a new CacheGroup");

pub(super) const ORIGIN_ONE_OF: Rule =
    ("has(self.sql) != has(self.http)", "exactly one of sql and http must be set");

pub(super) const QUERY_PLACEHOLDER: Rule = (
    "self.matches('[$]1([^0-9]|$)') || self.split('?').size() == 2",
    "query must have one placeholder for the key: $1 (PostgreSQL, SQLite) or one ? (MySQL, SQLite)",
);

pub(super) const QUERY_ONE_PARAMETER: Rule = (
    "!self.matches('[$]([2-9]|1[0-9])')",
    "query may have no placeholder but $1: the key is the only parameter",
);

pub(super) const URL_HAS_KEY: Rule = ("self.contains('{key}')", "urlTemplate must hold {key}");

pub(super) const URL_NO_CREDENTIALS: Rule =
    ("!self.matches('^https?://[^/]*@')", "urlTemplate may hold no user or password");
