//! Owns every CEL rule of the two resources with the message of its failure. A rule belongs to the
//! field that its message names; `operator/tests/rules.rs` tests each one failing and passing.

/// A CEL expression and its message.
type Rule = (&'static str, &'static str);

pub(super) const CLUSTER_NAME_LENGTH: Rule = (
    "size(self.metadata.name) <= 40",
    "the name must have at most 40 characters, because the names of child objects contain it",
);

pub(super) const CLUSTER_NAME_FORM: Rule = (
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "the name must start with a letter and contain only lower-case letters, digits and hyphens, \
     because it is the name of a Service",
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
    "etcd cannot be changed between managed and external; create a new CacheCluster",
);

pub(super) const ETCD_STORAGE_STAYS: Rule = (
    "has(self.storage) == has(oldSelf.storage) && \
     (!has(self.storage) || self.storage == oldSelf.storage)",
    "storage cannot be changed; create a new CacheCluster",
);

pub(super) const SNAPSHOT_STORAGE_STAYS: Rule = (
    "has(self.storage) == has(oldSelf.storage) && \
     (!has(self.storage) || self.storage == oldSelf.storage)",
    "snapshot.storage cannot be changed, because the volumes of a StatefulSet cannot; create a new \
     CacheCluster",
);

pub(super) const SNAPSHOT_STORAGE_ENABLED: Rule = (
    "self.enabled || !has(self.storage)",
    "snapshot.storage can only be set while snapshot is enabled",
);

pub(super) const ETCD_MEMBERS: Rule = ("self == 1 || self == 3", "etcd must have 1 or 3 members");

pub(super) const STORAGE_MINIMUM: Rule = (
    "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('256Mi')) >= 0",
    "size must be at least 256Mi",
);

pub(super) const ETCD_TLS: Rule = (
    "self.endpoints.all(e, e.startsWith('https://') == has(self.tlsSecretRef))",
    "https endpoints need tlsSecretRef; http endpoints must not have it",
);

pub(super) const RING_ALGORITHM: Rule =
    ("!has(self.ring) || self.algorithm == 'Ring'", "ring can only be set with the algorithm Ring");

pub(super) const GROUP_NAME_LENGTH: Rule = (
    "size(self.metadata.name) <= 63",
    "the name must have at most 63 characters, because every request contains it",
);

pub(super) const GUARANTEE_MINIMUM: Rule = (
    "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('1Mi')) >= 0",
    "guaranteedMemory must be at least 1Mi; leave it out for no guarantee",
);

pub(super) const GUARANTEE_MAXIMUM: Rule = (
    "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity('1Ti')) <= 0",
    "guaranteedMemory must be at most 1Ti",
);

pub(super) const CLUSTER_REF_STAYS: Rule =
    ("self == oldSelf", "clusterRef cannot be changed; create a new CacheGroup");

pub(super) const ORIGIN_ONE_OF: Rule =
    ("has(self.sql) != has(self.http)", "exactly one of sql and http must be set");

pub(super) const QUERY_PLACEHOLDER: Rule = (
    "self.matches('[$]1([^0-9]|$)') || self.split('?').size() == 2",
    "query must have one placeholder for the key: $1 (PostgreSQL, SQLite) or one ? (MySQL, SQLite)",
);

pub(super) const QUERY_ONE_PARAMETER: Rule = (
    "!self.matches('[$]([2-9]|1[0-9])')",
    "query must have no placeholder but $1: the key is the only parameter",
);

pub(super) const BATCH_PLACEHOLDER: Rule = (
    "self.matches('[$]1([^0-9]|$)') || self.split('?').size() == 2",
    "batch.query must have one placeholder for the keys: = ANY($1) (PostgreSQL), IN ($1) (MySQL, \
     SQLite) or IN (?)",
);

pub(super) const BATCH_ONE_PARAMETER: Rule = (
    "!self.matches('[$]([2-9]|1[0-9])')",
    "batch.query must have no placeholder but $1: the keys are the only parameter",
);

pub(super) const MAX_KEYS_MINIMUM: Rule =
    ("self >= 1", "maxKeys must be at least 1; leave out batch to load keys one by one");

pub(super) const BATCH_URL_WITHOUT_KEY: Rule =
    ("!self.contains('{key}')", "batch.url must not contain {key}: the keys are in the body");

pub(super) const BATCH_URL_NO_CREDENTIALS: Rule =
    ("!self.matches('^https?://[^/]*@')", "batch.url must not contain a user or a password");

pub(super) const URL_HAS_KEY: Rule = ("self.contains('{key}')", "urlTemplate must contain {key}");

pub(super) const URL_NO_CREDENTIALS: Rule =
    ("!self.matches('^https?://[^/]*@')", "urlTemplate must not contain a user or a password");

pub(super) const TAGS_HEADER_NAME: Rule = (
    "self.matches('^[A-Za-z0-9!#$%&*+.^_`|~-]*$')",
    "tagsHeader must be the name of a header: letters, digits and !#$%&*+-.^_`|~",
);

pub(super) const RATE_MINIMUM: Rule =
    ("self >= 1", "loadsPerSecond must be at least 1; leave it out for no limit");

pub(super) const BURST_MINIMUM: Rule =
    ("self >= 1", "burst must be at least 1; leave it out for the loads of one second");

pub(super) const BURST_NEEDS_RATE: Rule =
    ("!has(self.burst) || has(self.loadsPerSecond)", "burst can only be set with loadsPerSecond");
