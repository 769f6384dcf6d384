//! The thread that keeps the journal: this member's invalidations since the last snapshot, and the
//! logs that it met. Nothing else writes in the folder but `snapshot.new`.
//!
//! # Guarantees
//! - A record counts as kept once the system has it, so that it survives this process, or once
//!   nothing is left on the disk that it would correct.
//! - A journal has no gap: after a failed write the snapshot is deleted. While that fails as well,
//!   no further record counts as kept, so no invalidation counts as confirmed by this member.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use larder_proto::v1::journal_frame::Frame;
use larder_proto::v1::{AppliedLog, JournalClosed, JournalFrame, LogPosition};
use larder_runtime::tasks::Failure;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::files::Folder;
use super::frame;
use super::opened::{Opened, journal_header, own_frame};
use crate::metrics::{SnapshotMetrics, SnapshotOperation};
use crate::peers::{LogEvent, Recorder, Ticket};

/// Records that wait for the disk.
const QUEUE: usize = 4_096;
/// Size of a journal beyond which a new snapshot is cheaper. Above that of the log itself.
const MAX_BYTES: u64 = 16 << 20;
/// Time between two tries to delete a snapshot.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time that another process of this member, which is about to end, keeps its lock.
const LOCK_LIMIT: Duration = Duration::from_millis(500);

/// Hands commands to the thread, which ends when this is dropped.
pub(super) struct JournalThread {
    queue: Mutex<Queue>,
    kept: watch::Receiver<Ticket>,
}

struct Queue {
    last: Ticket,
    commands: SyncSender<(Ticket, Command)>,
    /// A command found no room.
    overflow: Arc<AtomicBool>,
}

enum Command {
    Record(Vec<u8>),
    /// Later records go to this journal.
    Begin {
        number: u64,
        header: Vec<u8>,
    },
    /// `snapshot.new` is complete, and `number` its journal.
    Publish {
        number: u64,
        done: SyncSender<io::Result<bool>>,
    },
    Close {
        done: SyncSender<io::Result<()>>,
    },
}

impl JournalThread {
    /// Starts the thread, which first reads what an earlier process left. The result comes through
    /// the channel; once its receiver is dropped, the files are deleted.
    pub(super) fn start(
        folder: Folder,
        metrics: SnapshotMetrics,
        failure: &Failure,
        uptime_ms: impl Fn() -> u64 + Send + 'static,
    ) -> io::Result<(Self, Receiver<Option<Opened>>)> {
        let (commands, received) = sync_channel(QUEUE);
        let (opened, result) = sync_channel(0);
        let (keeps, kept) = watch::channel(Ticket::default());
        let overflow = Arc::new(AtomicBool::new(false));
        let mut keeper = Keeper {
            folder,
            metrics,
            current: None,
            is_stuck: false,
            keeps,
            overflow: overflow.clone(),
            last: Ticket::default(),
        };
        let vital = failure.vital("journal");
        thread::Builder::new().name("larder-journal".into()).spawn(move || {
            let _vital = vital;
            let Some(_lock) = keeper.lock() else { return };
            if opened.send(keeper.open(uptime_ms)).is_err() {
                keeper.metrics.failed(SnapshotOperation::Open);
                keeper.clear("it could not be read in time");
            }
            keeper.run(&received);
        })?;
        let queue = Mutex::new(Queue { last: Ticket::default(), commands, overflow });
        Ok((Self { queue, kept }, result))
    }

    /// For the log of this member.
    pub(super) fn recorder(self: &Arc<Self>) -> Recorder {
        let thread = self.clone();
        let sink = move |event: LogEvent<'_>| thread.send(Command::Record(encode(event)));
        Recorder { sink: Box::new(sink), kept: self.kept.clone() }
    }

    /// Begins a journal, for a log that ends at `log_end`.
    pub(super) fn begin(&self, folder: &Folder, number: u64, log_end: LogPosition) {
        let mut header = frame::begin();
        let identity = (&*folder.cluster, &*folder.member);
        frame::push(&mut header, &journal_header(identity, number, log_end));
        self.send(Command::Begin { number, header });
    }

    /// Puts `snapshot.new` in the place of the last snapshot. False if its journal has a gap.
    pub(super) fn publish(&self, number: u64, limit: Duration) -> io::Result<bool> {
        let (done, result) = sync_channel(1);
        self.send(Command::Publish { number, done });
        result.recv_timeout(limit).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Marks the journal as complete and flushes it.
    pub(super) fn close(&self, limit: Duration) -> io::Result<()> {
        let (done, result) = sync_channel(1);
        self.send(Command::Close { done });
        result.recv_timeout(limit).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn send(&self, command: Command) -> Ticket {
        // Under the lock, so that the tickets are in the order of the commands.
        let mut queue = self.queue.lock();
        queue.last = Ticket(queue.last.0 + 1);
        match queue.commands.try_send((queue.last, command)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => queue.overflow.store(true, Ordering::SeqCst),
            // The thread panicked, so the process is about to stop.
            Err(TrySendError::Disconnected(_)) => {}
        }
        queue.last
    }
}

fn encode(event: LogEvent<'_>) -> Vec<u8> {
    let record = match event {
        LogEvent::Own { number, what } => own_frame(number, what),
        LogEvent::Met { member, incarnation } => {
            let met = AppliedLog { member: member.to_owned(), incarnation, number: None };
            JournalFrame { frame: Some(Frame::Met(met)) }
        }
    };
    let mut bytes = Vec::new();
    frame::push(&mut bytes, &record);
    bytes
}

/// The state of the thread.
struct Keeper {
    folder: Folder,
    metrics: SnapshotMetrics,
    /// The journal that belongs to the snapshot on the disk, or to the next one; `None` if there is
    /// nothing to correct.
    current: Option<Journal>,
    /// There is a snapshot without a complete journal, and it cannot be deleted.
    is_stuck: bool,
    keeps: watch::Sender<Ticket>,
    overflow: Arc<AtomicBool>,
    last: Ticket,
}

struct Journal {
    number: u64,
    file: File,
    bytes: u64,
}

impl Keeper {
    fn lock(&self) -> Option<File> {
        let tries = 10;
        for left in (0..tries).rev() {
            match self.folder.lock() {
                Ok(lock) => return Some(lock),
                Err(super::files::Error::InUse { .. }) if left > 0 => pause(LOCK_LIMIT / tries),
                Err(error) => {
                    tracing::warn!(%error, "no snapshot is kept");
                    self.metrics.failed(SnapshotOperation::Open);
                    return None;
                }
            }
        }
        None
    }

    fn open(&mut self, uptime_ms: impl Fn() -> u64) -> Option<Opened> {
        match self.folder.open(uptime_ms) {
            Ok(Some(opened)) => return Some(opened),
            Ok(None) => self.clear("none is there"),
            Err(error) => {
                tracing::warn!(%error, "snapshot not used, starting cold");
                self.metrics.failed(SnapshotOperation::Open);
                self.clear("it cannot be used");
            }
        }
        None
    }

    fn run(&mut self, commands: &Receiver<(Ticket, Command)>) {
        loop {
            let next = if self.is_stuck {
                commands.recv_timeout(RETRY)
            } else {
                commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            if self.overflow.swap(false, Ordering::SeqCst) {
                self.fail("too many invalidations waited for the disk");
            }
            match next {
                Ok((ticket, command)) => {
                    self.last = ticket;
                    self.carry_out(command);
                }
                Err(RecvTimeoutError::Timeout) => self.clear("its journal is incomplete"),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.is_stuck {
                self.keeps.send_replace(self.last);
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Record(bytes) => self.write(&bytes),
            Command::Begin { number, header } => {
                if self.is_stuck {
                    return;
                }
                match self.folder.create_journal(number) {
                    Ok(file) => {
                        self.current = Some(Journal { number, file, bytes: 0 });
                        self.write(&header);
                    }
                    Err(error) => self.fail(&error.to_string()),
                }
            }
            Command::Publish { number, done } => _ = done.send(self.publish(number)),
            Command::Close { done } => _ = done.send(self.close()),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(journal) = &mut self.current else { return };
        journal.bytes += bytes.len() as u64;
        if journal.bytes > MAX_BYTES {
            return self.fail("there were more invalidations than a journal holds");
        }
        if let Err(error) = journal.file.write_all(bytes) {
            self.fail(&error.to_string());
        }
    }

    fn publish(&mut self, number: u64) -> io::Result<bool> {
        if self.current.as_ref().is_none_or(|journal| journal.number != number) {
            return Ok(false);
        }
        self.folder.publish()?;
        self.folder.remove_journals(number)?;
        Ok(true)
    }

    fn close(&mut self) -> io::Result<()> {
        let mut closed = Vec::new();
        let frame = Some(Frame::Closed(JournalClosed {}));
        frame::push(&mut closed, &JournalFrame { frame });
        self.write(&closed);
        match &self.current {
            Some(journal) => journal.file.sync_data().and_then(|()| self.folder.flush()),
            None => Ok(()),
        }
    }

    /// The journal has a gap.
    fn fail(&mut self, problem: &str) {
        tracing::warn!(problem, "journal of invalidations failed, deleting the snapshot");
        self.metrics.failed(SnapshotOperation::Journal);
        self.clear(problem);
    }

    fn clear(&mut self, why: &str) {
        self.current = None;
        let cleared = self.folder.clear();
        let was_stuck = std::mem::replace(&mut self.is_stuck, cleared.is_err());
        match cleared {
            Ok(()) => tracing::debug!(why, "no snapshot on disk"),
            Err(error) if !was_stuck => tracing::error!(
                folder = %self.folder.path().display(), %error,
                "snapshot cannot be deleted: this member confirms no invalidation until it is"
            ),
            Err(_) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
fn pause(time: Duration) {
    thread::sleep(time);
}
