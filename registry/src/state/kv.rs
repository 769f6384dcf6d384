//! Range, put, delete and compact. Each request is checked before anything changes, so a refused
//! request has no effect. Single requests and transactions share the checks and the changes.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKeyValue,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
};
use etcd_client::{SortOrder, SortTarget};

use super::State;
use crate::error::Error;
use crate::lease::Leases;
use crate::store::{KeyRange, Store, Write};

impl State {
    pub(crate) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Error> {
        check_range(&self.store, request)?;
        range(&self.store, request)
    }

    pub(crate) fn put(&mut self, request: PbPutRequest) -> Result<PbPutResponse, Error> {
        check_put(&self.store, &self.leases, &request)?;
        let mut write = self.store.write();
        let response = put(&mut write, &mut self.leases, request);
        write.commit();
        Ok(response)
    }

    pub(crate) fn delete(&mut self, request: &PbDeleteRequest) -> Result<PbDeleteResponse, Error> {
        check_delete(request)?;
        let mut write = self.store.write();
        let response = delete(&mut write, &mut self.leases, request);
        write.commit();
        Ok(response)
    }

    pub(crate) fn compact(
        &mut self,
        request: &PbCompactionRequest,
    ) -> Result<PbCompactionResponse, Error> {
        self.store.compact(request.revision)?;
        Ok(PbCompactionResponse::default())
    }
}

pub(super) fn check_range(store: &Store, request: &PbRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if !known {
        return Err(Error::InvalidSort);
    }
    if request.revision > 0 { store.check_revision(request.revision) } else { Ok(()) }
}

/// Reads a range that [`check_range`] has accepted.
pub(super) fn range(store: &Store, request: &PbRangeRequest) -> Result<PbRangeResponse, Error> {
    let range = KeyRange::new(&request.key, &request.range_end);
    let mut kvs: Vec<PbKeyValue> = if request.revision > 0 {
        store.at(&range, request.revision)?
    } else {
        store.now(&range).cloned().collect()
    };
    // etcd counts before it filters.
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    if request.count_only {
        return Ok(PbRangeResponse { count, ..Default::default() });
    }
    let in_bounds =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    let (min_created, max_created) = (request.min_create_revision, request.max_create_revision);
    kvs.retain(|kv| {
        in_bounds(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && in_bounds(kv.create_revision, min_created, max_created)
    });
    sort(&mut kvs, request);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
        }
    }
    Ok(PbRangeResponse { kvs, more, count, ..Default::default() })
}

/// Sorts by the request's target. `kvs` is already sorted by key.
fn sort(kvs: &mut [PbKeyValue], request: &PbRangeRequest) {
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}

pub(super) fn check_put(
    store: &Store,
    leases: &Leases,
    request: &PbPutRequest,
) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    if (request.ignore_value || request.ignore_lease) && store.get(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    if request.lease != 0 && leases.get(request.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// Performs a put that [`check_put`] has accepted.
pub(super) fn put(
    write: &mut Write<'_>,
    leases: &mut Leases,
    request: PbPutRequest,
) -> PbPutResponse {
    let current = write.store().get(&request.key);
    let value = match current {
        Some(kv) if request.ignore_value => kv.value.clone(),
        _ => request.value,
    };
    let lease = match current {
        Some(kv) if request.ignore_lease => kv.lease,
        _ => request.lease,
    };
    let previous_lease = current.map_or(0, |kv| kv.lease);
    leases.attach(&request.key, previous_lease, lease);
    let previous = write.put(request.key, value, lease);
    PbPutResponse { header: None, prev_kv: previous.filter(|_| request.prev_kv) }
}

pub(super) fn check_delete(request: &PbDeleteRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Performs a delete that [`check_delete`] has accepted.
pub(super) fn delete(
    write: &mut Write<'_>,
    leases: &mut Leases,
    request: &PbDeleteRequest,
) -> PbDeleteResponse {
    let removed = write.delete(&KeyRange::new(&request.key, &request.range_end));
    for kv in &removed {
        leases.detach(&kv.key, kv.lease);
    }
    let deleted = i64::try_from(removed.len()).unwrap_or(i64::MAX);
    let prev_kvs = if request.prev_kv { removed } else { Vec::new() };
    PbDeleteResponse { header: None, deleted, prev_kvs }
}
