//! Ways to break the registry as etcd breaks in the field, for tests.

use std::sync::Arc;

use etcd_client::proto::PbCompactionRequest;

use crate::shared::Shared;

/// Breaks a running registry. Clones break the same one.
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

impl Faults {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Revokes every lease at once and tells how many those were, as an etcd whose leader hung on
    /// its disk does (etcd-io/etcd#15247).
    pub fn revoke_all_leases(&self) -> usize {
        self.shared.change(|state, _| state.revoke_all())
    }

    /// Ends every watch and keep-alive stream; connections stay.
    pub fn drop_streams(&self) {
        self.shared.drop_streams();
    }

    /// Stops answering, with connections open, until [`Faults::resume`]. Leases do not end
    /// meanwhile, as without a leader.
    pub fn stall(&self) {
        self.shared.set_stalled(true);
    }

    /// Answers again; every lease gets its whole life anew, as after an election.
    pub fn resume(&self) {
        self.shared.set_stalled(false);
    }

    /// Forgets all history before now; a watch that resumes from before is told so.
    pub fn compact(&self) {
        self.shared.change(|state, _| {
            let revision = state.store.revision();
            // Compacted already when nothing was written since.
            let _ = state.compact(&PbCompactionRequest { revision, physical: false });
        });
    }

    /// Loses keys, leases, history and identity, as a cluster made anew from empty disks.
    pub fn forget_everything(&self) {
        self.shared.forget();
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.shared.read(|state, _| state.store.revision())
    }
}
