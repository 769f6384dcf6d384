//! The registry as a state machine: every request is a function of (state, request, now).
//!
//! Connects keys and leases: a key put with a lease is attached to it, and a lease that ends
//! deletes its keys. `kv` and `txn` implement the requests on keys. Never waits and never reads a
//! clock.

mod kv;
mod txn;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveResponse, PbLeaseLeasesResponse,
    PbLeaseRevokeResponse, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};

use crate::error::Error;
use crate::lease::Leases;
use crate::store::{KeyRange, Store};

/// All data of the registry.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) leases: Leases,
}

impl State {
    pub(crate) fn new(log_limit: usize, min_ttl_s: i64) -> Self {
        Self { store: Store::new(log_limit), leases: Leases::new(min_ttl_s) }
    }

    /// Grants a lease, under `spare_id` if the request has no id.
    pub(crate) fn grant(
        &mut self,
        request: &PbLeaseGrantRequest,
        spare_id: i64,
        now_ms: u64,
    ) -> Result<PbLeaseGrantResponse, Error> {
        let id = if request.id == 0 { spare_id } else { request.id };
        let ttl = self.leases.grant(id, request.ttl, now_ms)?;
        Ok(PbLeaseGrantResponse { id, ttl, ..Default::default() })
    }

    /// Ends a lease and deletes all its keys in one revision.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<PbLeaseRevokeResponse, Error> {
        let lease = self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
        let mut write = self.store.write();
        for key in &lease.keys {
            write.delete(&KeyRange::new(key, b""));
        }
        write.commit();
        Ok(PbLeaseRevokeResponse::default())
    }

    /// Renews a lease. The response for an unknown or expired lease has a TTL of 0.
    pub(crate) fn keep_alive(&mut self, id: i64, now_ms: u64) -> PbLeaseKeepAliveResponse {
        let ttl = self.leases.keep_alive(id, now_ms).unwrap_or(0);
        PbLeaseKeepAliveResponse { id, ttl, ..Default::default() }
    }

    /// Reports a lease's remaining TTL. The response for an unknown or expired lease has a TTL of
    /// -1.
    pub(crate) fn time_to_live(
        &self,
        request: &PbLeaseTimeToLiveRequest,
        now_ms: u64,
    ) -> PbLeaseTimeToLiveResponse {
        let id = request.id;
        let Some(lease) = self.leases.get(id).filter(|lease| !lease.is_due(now_ms)) else {
            return PbLeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() };
        };
        PbLeaseTimeToLiveResponse {
            id,
            ttl: lease.remaining_s(now_ms),
            granted_ttl: lease.ttl_s,
            keys: if request.keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
            ..Default::default()
        }
    }

    pub(crate) fn leases(&self) -> PbLeaseLeasesResponse {
        let leases = self.leases.ids().into_iter().map(|id| PbLeaseStatus { id }).collect();
        PbLeaseLeasesResponse { leases, ..Default::default() }
    }

    /// Ends all expired leases and returns their number.
    pub(crate) fn expire(&mut self, now_ms: u64) -> usize {
        self.revoke_each(self.leases.due(now_ms))
    }

    /// Ends all leases, one revision each, and returns their number.
    pub(crate) fn revoke_all(&mut self) -> usize {
        self.revoke_each(self.leases.ids())
    }

    fn revoke_each(&mut self, ids: Vec<i64>) -> usize {
        ids.into_iter().filter(|id| self.revoke(*id).is_ok()).count()
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbPutRequest;

    use super::*;

    fn state_with_lease(ttl: i64) -> State {
        let mut state = State::new(100, 1);
        let granted = state.grant(&PbLeaseGrantRequest { id: 0, ttl }, 7, 0).expect("free");
        assert_eq!((granted.id, granted.ttl), (7, ttl));
        state
    }

    fn put(state: &mut State, key: &str, lease: i64) {
        let request = PbPutRequest { key: key.into(), lease, ..Default::default() };
        state.put(request).expect("a granted lease");
    }

    #[test]
    fn an_expired_lease_deletes_all_its_keys_in_one_revision() {
        let mut state = state_with_lease(5);
        put(&mut state, "a", 7);
        put(&mut state, "b", 7);
        put(&mut state, "c", 0);
        assert_eq!(state.expire(4_999), 0);
        assert_eq!(state.expire(5_000), 1);
        assert_eq!(state.store.revision(), 5);
        assert_eq!(state.store.now(&KeyRange::new(b"\0", b"\0")).count(), 1);
    }

    /// A pod's successor writes the same key with its own lease, and the old pod's lease ends
    /// later.
    #[test]
    fn a_key_moved_to_another_lease_outlives_its_first_lease() {
        let mut state = state_with_lease(5);
        put(&mut state, "a", 7);
        state.grant(&PbLeaseGrantRequest { id: 8, ttl: 50 }, 0, 0).expect("free");
        put(&mut state, "a", 8);
        assert_eq!(state.expire(5_000), 1);
        assert!(state.store.get(b"a").is_some());
    }

    #[test]
    fn a_key_put_again_without_its_lease_outlives_it() {
        let mut state = state_with_lease(5);
        put(&mut state, "a", 7);
        put(&mut state, "a", 0);
        state.expire(5_000);
        assert!(state.store.get(b"a").is_some());
    }

    #[test]
    fn each_request_reports_an_expired_lease() {
        let mut state = state_with_lease(5);
        state.expire(5_000);
        assert_eq!(state.keep_alive(7, 5_000).ttl, 0);
        let request = PbLeaseTimeToLiveRequest { id: 7, keys: true };
        assert_eq!(state.time_to_live(&request, 5_000).ttl, -1);
        assert_eq!(state.revoke(7), Err(Error::LeaseNotFound));
        let request = PbPutRequest { key: "a".into(), lease: 7, ..Default::default() };
        assert_eq!(state.put(request), Err(Error::LeaseNotFound));
    }
}
