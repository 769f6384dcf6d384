//! Leases: when each expires and which keys are attached to it. The caller passes the time in
//! milliseconds.
//!
//! This module never deletes a key; [`crate::state`] does.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;

/// etcd's maximum lease TTL, in seconds (source: etcd `lease.MaxLeaseTTL`).
const MAX_TTL_S: i64 = 9_000_000_000;

/// All leases that have been granted and not removed.
#[derive(Debug)]
pub(crate) struct Leases {
    by_id: BTreeMap<i64, Lease>,
    min_ttl_s: i64,
}

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) ttl_s: i64,
    expires_at_ms: u64,
    pub(crate) keys: BTreeSet<Vec<u8>>,
}

impl Leases {
    /// Starts without leases. Every granted lease lasts at least `min_ttl_s` seconds.
    pub(crate) fn new(min_ttl_s: i64) -> Self {
        Self { by_id: BTreeMap::new(), min_ttl_s }
    }

    /// Grants the lease `id` and returns its TTL in seconds.
    pub(crate) fn grant(&mut self, id: i64, ttl_s: i64, now_ms: u64) -> Result<i64, Error> {
        if ttl_s > MAX_TTL_S {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.by_id.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let ttl_s = ttl_s.max(self.min_ttl_s);
        let lease = Lease { ttl_s, expires_at_ms: after(now_ms, ttl_s), keys: BTreeSet::new() };
        self.by_id.insert(id, lease);
        Ok(ttl_s)
    }

    /// Renews a lease that has not expired and returns its TTL in seconds.
    pub(crate) fn keep_alive(&mut self, id: i64, now_ms: u64) -> Option<i64> {
        let lease = self.by_id.get_mut(&id).filter(|lease| !lease.is_due(now_ms))?;
        lease.expires_at_ms = after(now_ms, lease.ttl_s);
        Some(lease.ttl_s)
    }

    /// Removes a lease and returns it with its keys.
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Moves a key from the lease `previous` to the lease `id`; 0 means no lease.
    pub(crate) fn attach(&mut self, key: &[u8], previous: i64, id: i64) {
        if previous != id {
            self.detach(key, previous);
        }
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.to_vec());
        }
    }

    pub(crate) fn detach(&mut self, key: &[u8], id: i64) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Ids of the leases that have expired and are not removed yet.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<i64> {
        self.by_id.iter().filter(|(_, lease)| lease.is_due(now_ms)).map(|(id, _)| *id).collect()
    }

    /// Ids of all leases, in order of expiry.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.by_id.keys().copied().collect();
        ids.sort_by_key(|id| self.by_id[id].expires_at_ms);
        ids
    }

    /// Renews every lease for its full TTL, as etcd does after an election.
    pub(crate) fn renew_all(&mut self, now_ms: u64) {
        for lease in self.by_id.values_mut() {
            lease.expires_at_ms = after(now_ms, lease.ttl_s);
        }
    }
}

impl Lease {
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }

    /// Whole seconds left.
    pub(crate) fn remaining_s(&self, now_ms: u64) -> i64 {
        let left_ms = self.expires_at_ms.saturating_sub(now_ms);
        i64::try_from(left_ms / 1000).unwrap_or(i64::MAX)
    }
}

fn after(now_ms: u64, ttl_s: i64) -> u64 {
    let ttl_ms = u64::try_from(ttl_s).unwrap_or(0).saturating_mul(1000);
    now_ms.saturating_add(ttl_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_due_exactly_at_the_end_of_its_ttl() {
        let mut leases = Leases::new(2);
        assert_eq!(leases.grant(7, 5, 0), Ok(5));
        assert_eq!(leases.grant(7, 5, 0), Err(Error::LeaseExists));
        assert_eq!(leases.grant(8, 1, 0), Ok(2), "raised to the minimum");
        assert_eq!(leases.due(1_999), Vec::<i64>::new());
        assert_eq!(leases.due(2_000), [8]);
        assert_eq!(leases.keep_alive(8, 2_000), None, "too late");
        assert_eq!(leases.keep_alive(7, 4_999), Some(5));
        assert_eq!(leases.due(9_998), [8]);
        assert_eq!(leases.get(7).expect("granted").remaining_s(5_000), 4);
    }

    #[test]
    fn a_key_is_attached_to_one_lease_at_a_time() {
        let mut leases = Leases::new(1);
        leases.grant(1, 5, 0).expect("free");
        leases.grant(2, 5, 0).expect("free");
        leases.attach(b"k", 0, 1);
        leases.attach(b"k", 1, 2);
        assert!(leases.remove(1).expect("granted").keys.is_empty());
        assert_eq!(leases.remove(2).expect("granted").keys.len(), 1);
    }
}
