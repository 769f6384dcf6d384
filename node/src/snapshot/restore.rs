//! Brings entries of the previous process back, once everything that was invalidated meanwhile is
//! known to have been applied.
//!
//! The fences are older than the first sync with a peer, so each invalidation that a sync brings
//! keeps its entries out. Until the verdict nothing is stored, so nothing can be served.

use std::time::Duration;

use larder_proto::v1::SnapshotBlock;
use larder_proto::v1::snapshot_frame::Frame as Part;
use tokio::time::{Instant, sleep};

use super::files::{self, Folder};
use super::frame::FrameError;
use super::opened::Opened;
use crate::cache::{Cache, Import, signed};
use crate::metrics::{SnapshotMetrics, SnapshotOperation};
use crate::peers::RestoreVerdict;

/// Time between two looks at the verdict: at first, and once the member is ready without it.
const POLL: Duration = Duration::from_millis(10);
const SLOW_POLL: Duration = Duration::from_millis(100);
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// How long the entries wait for a member that is needed for the verdict: longer than all members
/// take to start again together.
const WAIT_LIMIT: Duration = Duration::from_mins(1);

/// Entries of the previous process that wait on the disk.
pub(super) struct Restore {
    /// Indexed as the groups in the snapshot. `None` for a group that is gone or has another
    /// origin.
    imports: Vec<Option<Import>>,
    away_ms: u64,
}

/// The entries that were stored, and those whose life had ended or that were invalidated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Restored {
    pub(super) stored: u64,
    pub(super) dropped: u64,
}

impl Restore {
    /// Takes the fences. Call it when the groups are known, and before the first sync with a peer.
    pub(super) fn begin(opened: &Opened, cache: &Cache) -> Self {
        let import = |name: &str, origin_id| cache.begin_import(name, origin_id);
        let groups = opened.groups.iter();
        let imports = groups.map(|group| import(&group.name, group.origin_id)).collect();
        opened.replay.iter().for_each(|what| cache.apply_here(what));
        Self { imports, away_ms: opened.away_ms }
    }

    /// Waits for the verdict. False if the entries must not be used.
    pub(super) async fn verdict(&self, cache: &Cache) -> bool {
        let began = Instant::now();
        loop {
            let missing = match cache.peers().restore_verdict() {
                RestoreVerdict::Current => return true,
                RestoreVerdict::Lost => {
                    tracing::warn!("snapshot not used: a member that was in the ring is gone");
                    return false;
                }
                RestoreVerdict::WaitsFor(missing) => missing,
            };
            if began.elapsed() >= WAIT_LIMIT {
                tracing::warn!(member = %missing, "snapshot not used: a member does not answer");
                return false;
            }
            sleep(if began.elapsed() < SLOW_AFTER { POLL } else { SLOW_POLL }).await;
        }
    }

    /// Stores the entries. Reads the disk, so it may take long.
    pub(super) fn import(&self, folder: &Folder, metrics: &SnapshotMetrics) -> Restored {
        let mut restored = Restored::default();
        let result = self.import_parts(folder, &mut restored);
        if let Err(error) = result {
            tracing::warn!(%error, "snapshot restored in part");
            metrics.failed(SnapshotOperation::Restore);
        }
        metrics.restored.inc_by(restored.stored);
        metrics.dropped.inc_by(restored.dropped);
        restored
    }

    fn import_parts(&self, folder: &Folder, restored: &mut Restored) -> Result<(), files::Error> {
        let Some(mut parts) = folder.parts()? else { return Ok(()) };
        while let Some(part) = parts.next()? {
            match part {
                Part::Block(block) => self.import_block(block, restored),
                Part::End(_) => return Ok(()),
                Part::Header(_) => break,
            }
        }
        Err(files::Error::Frame { name: "snapshot".into(), source: FrameError::Torn })
    }

    fn import_block(&self, block: SnapshotBlock, restored: &mut Restored) {
        let index = usize::try_from(block.group).unwrap_or(usize::MAX);
        let import = self.imports.get(index).and_then(Option::as_ref);
        // The snapshot was written that long before this process's clock began.
        let read_ms = -signed(self.away_ms);
        for entry in block.entries {
            let stored = import.is_some_and(|import| import.store(&entry, read_ms));
            *(if stored { &mut restored.stored } else { &mut restored.dropped }) += 1;
        }
    }
}
