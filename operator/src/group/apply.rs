//! Owns the write of a CacheGroup: its contract in the registry, when another one is there.

use larder_proto::contract::GroupContract;

use super::observe::{Credential, Observed};
use crate::etcd::{self, Change, Entry, EtcdAdmin};

/// What became of the contract.
#[derive(Debug)]
pub enum ContractWrite {
    /// It is in the registry since this revision.
    WrittenAt(i64),
    /// It was not tried, because the group is not accepted.
    NotTried,
    /// The members' Secret does not have the credential yet.
    WaitsForCredential,
    /// The registry could not be read or written.
    Failed(etcd::Error),
}

/// Writes `contract` unless it is there already. It is not written before the members' Secret has
/// its credential: members would otherwise load without it and fail.
pub async fn apply(
    admin: &dyn EtcdAdmin,
    observed: &Observed,
    entry: Result<Option<Entry>, etcd::Error>,
    contract: &GroupContract,
) -> ContractWrite {
    if observed.credential == (Credential::Found { delivered: false }) {
        return ContractWrite::WaitsForCredential;
    }
    let value = serde_json::to_vec(contract).expect("a contract is always JSON");
    match entry {
        Ok(Some(entry)) if entry.value == value => {
            return ContractWrite::WrittenAt(entry.changed);
        }
        Ok(_) => {}
        Err(error) => return ContractWrite::Failed(error),
    }
    let change = Change::Put { key: observed.key.clone(), value };
    match admin.change(&observed.access, change).await {
        Ok(revision) => {
            tracing::info!(generation = contract.generation, revision, "contract written");
            ContractWrite::WrittenAt(revision)
        }
        Err(error) => ContractWrite::Failed(error),
    }
}
