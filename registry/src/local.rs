//! The registry without gRPC: the same state machine, called from within the process. For
//! simulations, which have no sockets.

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_client::CompareOp;
use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbLeaseGrantRequest, PbPutRequest, PbTargetUnion, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp, PbWatchResponse,
};
use larder_runtime::clock::Clock;
use larder_runtime::tasks::Tasks;
use tokio::sync::watch;

use crate::embedded::expire_leases;
use crate::faults::Faults;
use crate::options::RegistryOptions;
use crate::shared::Shared;
use crate::store::KeyRange;
use crate::watch::{WatchRequest, Watchers};

/// A registry in this process. Clones refer to the same registry.
///
/// A call takes effect at once, even while the registry is stalled: the caller awaits
/// [`LocalRegistry::wait_until_resumed`] first, and simulates the network in between.
#[derive(Debug, Clone)]
pub struct LocalRegistry {
    shared: Arc<Shared>,
}

/// A value and the revision of its last change.
pub type Revised = (Vec<u8>, u64);

/// Every key under a prefix.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Changes when all data is lost.
    pub cluster: u64,
    /// The revision at which it was read.
    pub revision: u64,
    /// Keys and values, in order.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The watch began when the registry was at this revision.
    Began {
        /// Id of the etcd cluster.
        cluster: u64,
        /// The registry's revision at that time.
        revision: u64,
    },
    /// Keys with their new values (`None`: deleted) and revisions.
    Changed(Vec<(Vec<u8>, Option<Vec<u8>>, u64)>),
    /// Everything up to this revision was delivered.
    Progress(u64),
    /// The history from which the watch had to continue is gone.
    Compacted,
}

/// A watch of a prefix.
#[derive(Debug)]
pub struct LocalWatch {
    shared: Arc<Shared>,
    watchers: Watchers,
    revisions: watch::Receiver<i64>,
    drops: watch::Receiver<u64>,
    pending: VecDeque<PbWatchResponse>,
}

impl LocalRegistry {
    /// An empty registry, whose leases expire until `tasks` stop.
    #[must_use]
    pub fn start(options: RegistryOptions, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared::new(options, Clock::start()));
        tasks.spawn("registry-leases", expire_leases(Arc::clone(&shared), tasks.clone()));
        Self { shared }
    }

    /// Fault injection for this registry.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }

    /// Waits while the registry is stalled.
    pub async fn wait_until_resumed(&self) {
        self.shared.wait_until_resumed().await;
    }

    /// Grants a lease and returns its id.
    #[must_use]
    pub fn grant(&self, ttl_s: u64) -> i64 {
        let spare_id = self.shared.spare_lease_id();
        let request = PbLeaseGrantRequest { id: 0, ttl: i64::try_from(ttl_s).unwrap_or(i64::MAX) };
        let granted = self.shared.change(|state, now_ms| state.grant(&request, spare_id, now_ms));
        granted.map_or(0, |granted| granted.id)
    }

    /// Renews a lease; false if it does not exist.
    #[must_use]
    pub fn keep_alive(&self, lease: i64) -> bool {
        self.shared.change(|state, now_ms| state.keep_alive(lease, now_ms)).ttl > 0
    }

    /// Ends a lease and deletes its keys.
    pub fn revoke(&self, lease: i64) {
        // Fails only if the lease has ended already.
        _ = self.shared.change(|state, _| state.revoke(lease));
    }

    /// Reads one key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Revised> {
        let found = self.shared.read(|state, _| state.store.get(key.as_bytes()).cloned())?;
        Some((found.value, found.mod_revision.unsigned_abs()))
    }

    /// Puts a key without a condition or lease.
    pub fn put(&self, key: &str, value: Vec<u8>) {
        let request = PbPutRequest { key: key.into(), value, ..Default::default() };
        // Fails only for an empty key or an unknown lease.
        _ = self.shared.change(|state, _| state.put(request));
    }

    /// Puts a key under a lease if its last write was at revision `expected` (0: if the key does
    /// not exist). `Ok(None)` if the condition does not hold.
    ///
    /// # Errors
    /// etcd's text, for an unknown lease.
    pub fn put_if(
        &self,
        key: &str,
        value: Vec<u8>,
        lease: i64,
        expected: u64,
    ) -> Result<Option<u64>, String> {
        let compare = PbCompare {
            result: CompareOp::Equal as i32,
            target: PbCompareTarget::Mod as i32,
            key: key.into(),
            range_end: Vec::new(),
            target_union: Some(PbTargetUnion::ModRevision(expected.cast_signed())),
        };
        let put = PbPutRequest { key: key.into(), value, lease, ..Default::default() };
        let operation = PbTxnRequestOp { request: Some(PbTxnOpRequest::RequestPut(put)) };
        let request =
            PbTxnRequest { compare: vec![compare], success: vec![operation], failure: Vec::new() };
        let (done, revision) = self.shared.change(|state, _| {
            let done = state.txn(request);
            (done, state.store.revision().unsigned_abs())
        });
        let done = done.map_err(|error| error.to_string())?;
        Ok(done.succeeded.then_some(revision))
    }

    /// Reads every key that begins with `prefix`.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Listed {
        let range = KeyRange::new(prefix.as_bytes(), &end_of(prefix));
        let cluster = self.shared.header(None).cluster_id;
        self.shared.read(|state, _| Listed {
            cluster,
            revision: state.store.revision().unsigned_abs(),
            entries: state.store.now(&range).map(|kv| (kv.key.clone(), kv.value.clone())).collect(),
        })
    }

    /// Watches every key that begins with `prefix`, starting at `revision`.
    #[must_use]
    pub fn watch(&self, prefix: &str, revision: u64) -> LocalWatch {
        let request = WatchRequest {
            key: prefix.into(),
            range_end: end_of(prefix),
            start_revision: revision.cast_signed(),
            ..WatchRequest::default()
        };
        let (revisions, drops) = (self.shared.revisions(), self.shared.drops());
        let mut watchers = Watchers::default();
        let began = self.shared.read(|state, _| watchers.create(request, &state.store));
        let mut watch = LocalWatch {
            shared: Arc::clone(&self.shared),
            watchers,
            revisions,
            drops,
            pending: VecDeque::from([began]),
        };
        watch.advance();
        watch
    }
}

impl LocalWatch {
    /// The next message; `None` if the stream was dropped by a fault.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            self.shared.wait_until_resumed().await;
            if self.drops.has_changed().unwrap_or(true) {
                return None;
            }
            if let Some(response) = self.pending.pop_front() {
                return Some(event(response, self.shared.header(None).cluster_id));
            }
            tokio::select! {
                biased;
                _ = self.drops.changed() => return None,
                _ = self.revisions.changed() => self.advance(),
            }
        }
    }

    /// Requests [`WatchEvent::Progress`], after everything that was not delivered yet.
    pub fn request_progress(&mut self) {
        let responses = self.shared.read(|state, _| self.watchers.progress(&state.store));
        self.pending.extend(responses);
    }

    fn advance(&mut self) {
        loop {
            let responses = self.shared.read(|state, _| self.watchers.advance(&state.store));
            if responses.is_empty() {
                return;
            }
            self.pending.extend(responses);
        }
    }
}

/// The end of the range of keys that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // Text has no byte 0xff, so the last byte can grow.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn event(response: PbWatchResponse, cluster: u64) -> WatchEvent {
    let revision = response.header.map_or(0, |header| header.revision.unsigned_abs());
    if response.canceled {
        return WatchEvent::Compacted;
    }
    if response.created {
        return WatchEvent::Began { cluster, revision };
    }
    if response.events.is_empty() {
        return WatchEvent::Progress(revision);
    }
    let changed = response.events.into_iter().filter_map(|event| {
        let deleted = event.r#type == etcd_client::EventType::Delete as i32;
        let kv = event.kv?;
        Some((kv.key, (!deleted).then_some(kv.value), kv.mod_revision.unsigned_abs()))
    });
    WatchEvent::Changed(changed.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;

    fn registry() -> LocalRegistry {
        LocalRegistry::start(RegistryOptions::default(), &Tasks::new(Handle::current()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_reports_changes_until_a_compaction() {
        let registry = registry();
        let cluster = registry.list("").cluster;
        let mut watch = registry.watch("/a/", 2);
        assert_eq!(watch.next().await, Some(WatchEvent::Began { cluster, revision: 1 }));
        let lease = registry.grant(2);
        let written = registry.put_if("/a/k", b"1".to_vec(), lease, 0).expect("a lease");
        assert_eq!(written, Some(2));
        assert_eq!(registry.put_if("/a/k", b"2".to_vec(), lease, 0), Ok(None));
        registry.put("/b/k", b"3".to_vec());
        let change = (b"/a/k".to_vec(), Some(b"1".to_vec()), 2);
        assert_eq!(watch.next().await, Some(WatchEvent::Changed(vec![change])));
        watch.request_progress();
        assert_eq!(watch.next().await, Some(WatchEvent::Progress(3)));
        // The lease expires.
        let gone = (b"/a/k".to_vec(), None, 4);
        assert_eq!(watch.next().await, Some(WatchEvent::Changed(vec![gone])));
        assert!(!registry.keep_alive(lease));
        registry.faults().compact();
        let mut late = registry.watch("/a/", 2);
        assert_eq!(late.next().await, Some(WatchEvent::Began { cluster, revision: 4 }));
        assert_eq!(late.next().await, Some(WatchEvent::Compacted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_registry_delivers_nothing_and_a_dropped_stream_ends() {
        let registry = registry();
        let cluster = registry.list("").cluster;
        let mut watch = registry.watch("/a/", 0);
        registry.faults().stall();
        let waited = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
        assert!(waited.is_err());
        registry.faults().resume();
        assert_eq!(watch.next().await, Some(WatchEvent::Began { cluster, revision: 1 }));
        registry.faults().drop_streams();
        assert_eq!(watch.next().await, None);
    }
}
