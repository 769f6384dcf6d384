//! The files in a member's folder: `snapshot`, `snapshot.new` while one is written, and the journals
//! `journal.1`, `journal.2`, ... Everything here may wait for the disk, so only threads of the
//! snapshot call it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use larder_proto::v1::journal_frame::Frame;
use larder_proto::v1::snapshot_frame::Frame as Part;
use larder_proto::v1::{JournalFrame, SnapshotFrame};

use super::frame::{FrameError, Frames};
use super::opened::{Doubt, JournalContent, Opened, assemble};
use super::time;

const SNAPSHOT: &str = "snapshot";
const NEW: &str = "snapshot.new";
const JOURNAL: &str = "journal.";
const LOCK: &str = "lock";
/// Journals without a snapshot between them, of as many processes in a row.
const MAX_JOURNALS: usize = 64;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{} cannot be created", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} cannot be locked", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("{} is used by another process", path.display())]
    InUse { path: PathBuf },
    #[error("{name} {source}")]
    Frame { name: String, source: FrameError },
    #[error("{name} cannot be opened: {source}")]
    Open { name: String, source: io::Error },
    #[error(transparent)]
    Doubt(#[from] Doubt),
}

/// The folder of one member.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) cluster: String,
    pub(super) member: String,
}

impl Folder {
    pub(super) fn new(directory: &Path, cluster: String, member: &str) -> Self {
        Self { path: directory.join(member), cluster, member: member.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder and locks it. The lock ends with the result.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let path = self.path.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| Error::Folder { path: path.clone(), source })?;
        let file = create(&self.path.join(LOCK), false)
            .map_err(|source| Error::Lock { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path }),
            Err(fs::TryLockError::Error(source)) => Err(Error::Lock { path, source }),
        }
    }

    /// Reads what an earlier process left, except its entries; `None` if nothing.
    pub(super) fn open(&self, uptime_ms: impl Fn() -> u64) -> Result<Option<Opened>, Error> {
        let Some(mut frames) = self.frames(SNAPSHOT)? else { return Ok(None) };
        let Some(Part::Header(header)) = next_part(&mut frames)? else {
            return Err(frame_error(SNAPSHOT, FrameError::Torn));
        };
        self.check(&header.cluster, &header.member)?;
        let mut journals = Vec::new();
        for number in (header.journal..).take(MAX_JOURNALS) {
            match self.journal(number)? {
                Some(journal) => journals.push(journal),
                None => break,
            }
        }
        Ok(Some(assemble(header, journals, &time::now(), uptime_ms())?))
    }

    /// The snapshot behind its header.
    pub(super) fn parts(&self) -> Result<Option<Parts>, Error> {
        let Some(mut frames) = self.frames(SNAPSHOT)? else { return Ok(None) };
        next_part(&mut frames)?;
        Ok(Some(Parts { frames }))
    }

    /// A journal up to its end, or up to the frame at which the process ended.
    fn journal(&self, number: u64) -> Result<Option<JournalContent>, Error> {
        let name = journal_name(number);
        let doubt = Doubt::Journal { number };
        let Some(mut frames) = self.frames(&name)? else { return Ok(None) };
        let mut content = JournalContent::default();
        match frames.next::<JournalFrame>() {
            Ok(Some(JournalFrame { frame: Some(Frame::Header(header)) })) => {
                content.header = header;
            }
            Ok(_) | Err(FrameError::Torn) => return Err(doubt.into()),
            Err(source) => return Err(Error::Frame { name, source }),
        }
        self.check(&content.header.cluster, &content.header.member)?;
        loop {
            match frames.next::<JournalFrame>() {
                Ok(Some(JournalFrame { frame: Some(frame) })) => content.frames.push(frame),
                Ok(Some(JournalFrame { frame: None })) => return Err(doubt.into()),
                // What was not written was not confirmed.
                Ok(None) | Err(FrameError::Torn) => return Ok(Some(content)),
                Err(source) => return Err(Error::Frame { name, source }),
            }
        }
    }

    fn check(&self, cluster: &str, member: &str) -> Result<(), Doubt> {
        if (cluster, member) == (&*self.cluster, &*self.member) {
            return Ok(());
        }
        Err(Doubt::Foreign { cluster: cluster.to_owned(), member: member.to_owned() })
    }

    fn frames(&self, name: &str) -> Result<Option<Frames<BufReader<File>>>, Error> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Open { name: name.to_owned(), source }),
        };
        let frames = Frames::open(BufReader::with_capacity(256 << 10, file));
        frames.map(Some).map_err(|source| frame_error(name, source))
    }

    pub(super) fn create_new(&self) -> io::Result<File> {
        create(&self.path.join(NEW), true)
    }

    pub(super) fn create_journal(&self, number: u64) -> io::Result<File> {
        create(&self.path.join(journal_name(number)), true)
    }

    /// Puts a new snapshot in the place of the last one.
    pub(super) fn publish(&self) -> io::Result<()> {
        fs::rename(self.path.join(NEW), self.path.join(SNAPSHOT))
    }

    /// Makes the names of the files as durable as their contents.
    pub(super) fn flush(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Deletes everything that could be restored.
    pub(super) fn clear(&self) -> io::Result<()> {
        // Without it the other files mean nothing.
        remove(&self.path.join(SNAPSHOT))?;
        remove(&self.path.join(NEW))?;
        self.remove_journals(u64::MAX)
    }

    pub(super) fn remove_new(&self) -> io::Result<()> {
        remove(&self.path.join(NEW))
    }

    /// Deletes the journals below `end`.
    pub(super) fn remove_journals(&self, end: u64) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(JOURNAL)?.parse().ok());
            if number.is_some_and(|number: u64| number < end) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The parts of a snapshot behind its header.
pub(super) struct Parts {
    frames: Frames<BufReader<File>>,
}

impl Parts {
    /// The next part; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Error> {
        next_part(&mut self.frames)
    }
}

fn next_part(frames: &mut Frames<BufReader<File>>) -> Result<Option<Part>, Error> {
    let next = frames.next::<SnapshotFrame>().map_err(|source| frame_error(SNAPSHOT, source))?;
    match next {
        None => Ok(None),
        Some(SnapshotFrame { frame: Some(part) }) => Ok(Some(part)),
        Some(SnapshotFrame { frame: None }) => Err(frame_error(SNAPSHOT, FrameError::Damaged)),
    }
}

fn frame_error(name: &str, source: FrameError) -> Error {
    Error::Frame { name: name.to_owned(), source }
}

fn journal_name(number: u64) -> String {
    format!("{JOURNAL}{number}")
}

/// Only this user may read it: it holds cached values and keys.
fn create(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
