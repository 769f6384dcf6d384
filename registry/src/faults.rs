//! Fault injection for tests: failures of etcd that have been observed in production.

use std::sync::Arc;

use etcd_client::proto::PbCompactionRequest;

use crate::shared::Shared;

/// Injects faults into a running registry. Clones refer to the same registry.
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

impl Faults {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Revokes all leases and returns their number. Happens in etcd after its leader was blocked by
    /// its disk (etcd-io/etcd#15247).
    pub fn revoke_all_leases(&self) -> usize {
        self.shared.change(|state, _| state.revoke_all())
    }

    /// Ends all watch and keep-alive streams but keeps their connections open.
    pub fn drop_streams(&self) {
        self.shared.drop_streams();
    }

    /// Stops answering until [`Faults::resume`], with connections open. No lease expires meanwhile,
    /// as in an etcd without a leader.
    pub fn stall(&self) {
        self.shared.set_stalled(true);
    }

    /// Answers again and renews every lease for its full TTL, as etcd does after an election.
    pub fn resume(&self) {
        self.shared.set_stalled(false);
    }

    /// Compacts the history up to the current revision. A watch that resumes from an earlier
    /// revision is cancelled with the compaction's revision.
    pub fn compact(&self) {
        self.shared.change(|state, _| {
            let revision = state.store.revision();
            // Fails if nothing was written since the last compaction.
            let _ = state.compact(&PbCompactionRequest { revision, physical: false });
        });
    }

    /// Loses keys, leases, history and cluster id, like a cluster recreated with empty disks.
    pub fn lose_all_data(&self) {
        self.shared.lose_all_data();
    }

    /// Current revision of the store.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.shared.read(|state, _| state.store.revision())
    }
}
