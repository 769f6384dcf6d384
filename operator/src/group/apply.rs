//! Owns the write of a CacheGroup: its contract in the registry, when another one stands there.

use larder_proto::contract::GroupContract;

use super::observe::{Credential, Observed};
use super::status::Written;
use crate::etcd::{self, Change, Entry, EtcdAdmin};

/// Writes `contract` unless it stands. A contract does not go out before the members' Secret has
/// its credential: members would try to load without.
pub async fn apply(
    admin: &dyn EtcdAdmin,
    observed: &Observed,
    entry: Result<Option<Entry>, etcd::Error>,
    contract: &GroupContract,
) -> Written {
    if observed.credential == (Credential::Found { delivered: false }) {
        return Written::WaitsForCredential;
    }
    let value = serde_json::to_vec(contract).expect("a contract is plain data");
    match entry {
        Ok(Some(entry)) if entry.value == value => return Written::At(entry.changed),
        Ok(_) => {}
        Err(error) => return Written::Failed(error),
    }
    let change = Change::Put { key: observed.key.clone(), value };
    match admin.change(&observed.access, change).await {
        Ok(revision) => {
            tracing::info!(generation = contract.generation, revision, "contract written");
            Written::At(revision)
        }
        Err(error) => Written::Failed(error),
    }
}
