//! The hottest entries on disk: written at drain and every so often, restored after a restart in
//! place.
//!
//! A restored member is treated as one that was frozen since its entries were read. It continues
//! its own log of invalidations from the journal on disk, and its positions in the logs of the
//! others from the snapshot, so the ordinary exchange brings what it missed
//! ([`peers`](crate::peers)). If that is in doubt, it starts cold.
//!
//! # Guarantees
//! - A restored entry was not invalidated meanwhile, and the time away counts as part of its life.
//! - Readiness waits at most [`READY_LIMIT`] for a restore. No read waits for a disk.
//! - A problem with a file costs the entries in it, and one log line.
//!
//! # Files
//! `opened` is pure: what the files mean. `frame` is their format, `files` the folder, `journal` the
//! thread that records invalidations, `write` and `restore` the two ways of the entries, `time` the
//! time between two processes. Start at [`Snapshots::open`].

mod files;
mod frame;
mod journal;
mod opened;
mod restore;
mod time;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use larder_runtime::clock::Clock;
use larder_runtime::ready::Gate;
use larder_runtime::tasks::{Failure, Tasks};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::files::Folder;
use self::journal::JournalThread;
use self::opened::Opened;
use self::restore::Restore;
use self::write::Writer;
use crate::cache::Cache;
use crate::config::{ClusterRef, SnapshotConfig};
use crate::metrics::{SnapshotMetrics, SnapshotOperation};
use crate::peers::Past;

/// Longest time that readiness waits for a restore, from the first ring on.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait for the disk at the start, before the entries of the previous process are given up.
const OPEN_LIMIT: Duration = Duration::from_secs(1);
/// Longest time for the entries of the last snapshot.
const LAST_LIMIT: Duration = Duration::from_secs(5);

/// A folder for snapshots, and what the previous process left in it.
pub(crate) struct Opening {
    config: SnapshotConfig,
    folder: Folder,
    metrics: SnapshotMetrics,
    journal: Arc<JournalThread>,
    clock: Clock,
    opened: Option<Opened>,
}

/// The snapshots of a running member.
pub(crate) struct Snapshots {
    config: SnapshotConfig,
    folder: Folder,
    metrics: SnapshotMetrics,
    journal: Arc<JournalThread>,
    clock: Clock,
    cache: Cache,
    tasks: Tasks,
    next_journal: AtomicU64,
    /// Taken when the groups are known.
    start: Mutex<Option<(Option<Opened>, Gate)>>,
    /// Entries wait on the disk, and must not be overwritten.
    is_restoring: AtomicBool,
    /// Held while a snapshot is written. True after the last.
    writing: tokio::sync::Mutex<bool>,
    hurry: AtomicBool,
}

impl Opening {
    /// Reads what the previous process left, for at most [`OPEN_LIMIT`]. `None` if the folder
    /// cannot be used.
    pub(crate) fn new(
        config: &SnapshotConfig,
        cluster: &ClusterRef,
        member: &str,
        clock: Clock,
        metrics: SnapshotMetrics,
        failure: &Failure,
    ) -> Option<Self> {
        let cluster = format!("{}/{}", cluster.namespace, cluster.name);
        let folder = Folder::new(&config.directory, cluster, member);
        let started =
            JournalThread::start(folder.clone(), metrics.clone(), failure, move || clock.now_ms());
        let (journal, result) = match started {
            Ok(started) => started,
            Err(error) => {
                tracing::warn!(%error, "no snapshot is kept");
                return None;
            }
        };
        let opened = match result.recv_timeout(OPEN_LIMIT) {
            Ok(opened) => opened,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                tracing::warn!("snapshot cannot be read in time, starting cold");
                None
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
        };
        let journal = Arc::new(journal);
        Some(Self { config: config.clone(), folder, metrics, journal, clock, opened })
    }

    /// The logs of the previous process.
    pub(crate) fn past(&self) -> Past {
        self.opened.as_ref().map(|opened| opened.past.clone()).unwrap_or_default()
    }

    /// Records invalidations from now on. `gate` opens when the restore has ended, or after
    /// [`READY_LIMIT`].
    pub(crate) fn attach(self, cache: &Cache, tasks: &Tasks, gate: Gate) -> Arc<Snapshots> {
        let Self { config, folder, metrics, journal, clock, opened } = self;
        let mut next_journal = 1;
        if let Some(opened) = &opened {
            // The snapshot on the disk stays in use, so what follows belongs to it.
            journal.begin(&folder, opened.next_journal, cache.peers().log_end());
            next_journal = opened.next_journal + 1;
        }
        cache.peers().set_recorder(journal.recorder());
        Arc::new(Snapshots {
            config,
            folder,
            metrics,
            journal,
            clock,
            cache: cache.clone(),
            tasks: tasks.clone(),
            next_journal: AtomicU64::new(next_journal),
            is_restoring: AtomicBool::new(opened.is_some()),
            start: Mutex::new(Some((opened, gate))),
            writing: tokio::sync::Mutex::new(false),
            hurry: AtomicBool::new(false),
        })
    }
}

impl Snapshots {
    /// Starts to restore and to write. Call it whenever the groups are known, and for the first
    /// time before this member begins a sync. What peers send before is not applied.
    pub(crate) fn begin(self: &Arc<Self>) {
        let Some((opened, gate)) = self.start.lock().take() else { return };
        let restore = opened.map(|opened| Restore::begin(&opened, &self.cache));
        self.cache.peers().begin_restore();
        self.tasks.spawn_vital("snapshots", self.clone().run(restore, gate));
    }

    async fn run(self: Arc<Self>, restore: Option<Restore>, gate: Gate) {
        let stopping = self.tasks.stopping().clone();
        tokio::select! {
            () = stopping.cancelled() => {}
            () = async {
                self.restore(restore, gate).await;
                self.write_regularly().await;
            } => {}
        }
    }

    async fn restore(self: &Arc<Self>, restore: Option<Restore>, gate: Gate) {
        let Some(restore) = restore else { return gate.open() };
        let began = Instant::now();
        let restored = async {
            if !restore.verdict(&self.cache).await {
                self.metrics.failed(SnapshotOperation::Restore);
            } else {
                let (folder, metrics) = (self.folder.clone(), self.metrics.clone());
                let import = tokio::task::spawn_blocking(move || restore.import(&folder, &metrics));
                if let Ok(done) = import.await {
                    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(
                        entries = done.stored,
                        dropped = done.dropped,
                        ms,
                        "snapshot restored"
                    );
                }
            }
        };
        tokio::pin!(restored);
        tokio::select! {
            () = &mut restored => gate.open(),
            () = sleep(READY_LIMIT) => {
                gate.open();
                restored.await;
            }
        }
        self.cache.peers().end_restore();
        self.is_restoring.store(false, Ordering::SeqCst);
    }

    async fn write_regularly(self: &Arc<Self>) {
        let (mut written, mut problem) = (None, None);
        loop {
            sleep(self.config.interval).await;
            let state = (self.cache.changes(), self.cache.peers().log_end().number);
            if written == Some(state) {
                continue;
            }
            let failed = self.write(false).await.err().map(|error| error.to_string());
            match &failed {
                None => written = Some(state),
                // A problem that stays is logged once.
                Some(error) if problem != failed => {
                    tracing::warn!(error, "snapshot not written");
                }
                Some(_) => {}
            }
            problem = failed;
        }
    }

    async fn write(self: &Arc<Self>, is_last: bool) -> anyhow::Result<()> {
        let mut writing = self.writing.lock().await;
        if std::mem::replace(&mut *writing, is_last) {
            return Ok(());
        }
        let snapshots = self.clone();
        let written = tokio::task::spawn_blocking(move || snapshots.write_blocking(is_last)).await;
        let written = written.map_err(anyhow::Error::from).and_then(|done| Ok(done?));
        written.inspect_err(|_| self.metrics.failed(SnapshotOperation::Write))
    }

    fn write_blocking(&self, is_last: bool) -> Result<(), write::Error> {
        let began = std::time::Instant::now();
        let writer = Writer {
            folder: &self.folder,
            journal: &self.journal,
            cache: &self.cache,
            clock: self.clock,
            max_bytes: self.config.max_bytes,
            bytes_per_second: self.config.bytes_per_second,
            hurry: &self.hurry,
            deadline: is_last.then(|| began + LAST_LIMIT),
        };
        let written = writer.write(self.next_journal.fetch_add(1, Ordering::SeqCst))?;
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.metrics.written_seconds.set(unix_time.unwrap_or_default().as_secs_f64());
        self.metrics.bytes.set(i64::try_from(written.bytes).unwrap_or(i64::MAX));
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(entries = written.entries, bytes = written.bytes, ms, "snapshot written");
        Ok(())
    }

    /// Writes the last snapshot and flushes everything. Call it when no more requests are served.
    pub(crate) async fn finish(self: Arc<Self>) {
        self.hurry.store(true, Ordering::SeqCst);
        // A snapshot that waits to be restored is better than what was loaded meanwhile.
        if !self.is_restoring.load(Ordering::SeqCst)
            && let Err(error) = self.write(true).await
        {
            tracing::warn!(error = format!("{error:#}"), "last snapshot not written");
        }
        let metrics = self.metrics.clone();
        let closing = tokio::task::spawn_blocking(move || self.journal.close(LAST_LIMIT));
        if let Ok(Err(error)) = closing.await {
            metrics.failed(SnapshotOperation::Journal);
            tracing::warn!(%error, "journal not closed");
        }
    }
}
