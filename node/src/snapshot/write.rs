//! Writes a snapshot: the hottest entries of each group, after the logs that they reflect.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_proto::v1::snapshot_frame::Frame as Part;
use larder_proto::v1::{SnapshotBlock, SnapshotEnd, SnapshotFrame, SnapshotGroup, StoredEntry};
use larder_runtime::clock::Clock;
use prost::Message;

use super::files::Folder;
use super::frame;
use super::journal::JournalThread;
use super::opened::to_header;
use super::time;
use crate::cache::{Cache, GroupContents};

/// Entries are written in blocks of about this size: the unit of a checksum and of the rate.
const BLOCK_BYTES: usize = 128 << 10;
/// Longest wait for the journal when a snapshot is complete.
const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// Why no snapshot was written. The last one, if any, stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("snapshot.new cannot be written")]
    Write(#[from] io::Error),
    #[error("the journal has a gap")]
    Journal,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

pub(super) struct Writer<'w> {
    pub(super) folder: &'w Folder,
    pub(super) journal: &'w JournalThread,
    pub(super) cache: &'w Cache,
    pub(super) clock: Clock,
    pub(super) max_bytes: u64,
    pub(super) bytes_per_second: u64,
    /// No rate any more: the member stops.
    pub(super) hurry: &'w AtomicBool,
    /// No more entries from then on.
    pub(super) deadline: Option<Instant>,
}

/// The file that is being written.
struct Output<'w> {
    file: BufWriter<File>,
    bytes: u64,
    began: Instant,
    writer: &'w Writer<'w>,
}

impl Writer<'_> {
    /// Writes a snapshot whose journal is `number`. May take long.
    pub(super) fn write(&self, number: u64) -> Result<Written, Error> {
        let written = self.try_write(number);
        if written.is_err() {
            // Also makes room on a full disk. If it fails, the next snapshot overwrites the file.
            _ = self.folder.remove_new();
        }
        written
    }

    fn try_write(&self, number: u64) -> Result<Written, Error> {
        // The times come first: lives and positions count from the earliest moment.
        let (written, now_ms) = (time::now(), self.clock.now_ms());
        let saved = self.cache.peers().save(|end| self.journal.begin(self.folder, number, end));
        // From here on: an entry that is read now reflects every invalidation in `saved`.
        let groups = self.cache.contents();
        let mut header = to_header(saved);
        (header.cluster, header.member) = (self.folder.cluster.clone(), self.folder.member.clone());
        (header.written, header.journal) = (Some(written), number);
        header.groups = groups.iter().map(described).collect();
        let mut output = Output {
            file: BufWriter::with_capacity(BLOCK_BYTES * 2, self.folder.create_new()?),
            bytes: 0,
            began: Instant::now(),
            writer: self,
        };
        output.write(&frame::begin())?;
        output.push(Part::Header(header))?;
        let total: u64 = groups.iter().map(|group| group.bytes).sum();
        let mut entries = 0;
        for (index, group) in (0..).zip(&groups) {
            let max = share(group.entries, self.max_bytes, total);
            entries += output.group(index, group, now_ms, max)?;
        }
        output.push(Part::End(SnapshotEnd { entries }))?;
        let bytes = output.bytes;
        let file = output.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        if !self.journal.publish(number, PUBLISH_LIMIT)? {
            return Err(Error::Journal);
        }
        self.folder.flush()?;
        Ok(Written { bytes, entries })
    }
}

impl Output<'_> {
    /// Returns the number of entries written.
    fn group(
        &mut self,
        index: u32,
        contents: &GroupContents,
        now_ms: u64,
        max: usize,
    ) -> io::Result<u64> {
        let mut block = SnapshotBlock { group: index, entries: Vec::new() };
        let (mut block_bytes, mut entries, mut failed) = (0, 0, None);
        contents.hottest_first(now_ms, max, |entry: StoredEntry| {
            if failed.is_some() || self.is_full(block_bytes) {
                return;
            }
            block_bytes += entry.encoded_len();
            entries += 1;
            block.entries.push(entry);
            if block_bytes >= BLOCK_BYTES {
                block_bytes = 0;
                let full = SnapshotBlock { group: index, entries: block.entries.split_off(0) };
                failed = self.push(Part::Block(full)).err();
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if !block.entries.is_empty() {
            self.push(Part::Block(block))?;
        }
        Ok(entries)
    }

    fn is_full(&self, more: usize) -> bool {
        self.bytes + more as u64 >= self.writer.max_bytes
            || self.writer.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn push(&mut self, part: Part) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::push(&mut bytes, &SnapshotFrame { frame: Some(part) });
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.writer.bytes_per_second as f64);
        let early = due.saturating_sub(self.began.elapsed());
        if !self.writer.hurry.load(Ordering::Relaxed) {
            pause(early);
        }
        Ok(())
    }
}

fn described(group: &GroupContents) -> SnapshotGroup {
    SnapshotGroup { name: group.name.to_string(), origin_id: group.origin_id }
}

/// The part of a group's entries that fits if all groups give up the same share. Without a bound if
/// all fit: the engine divides a bound evenly over shards, which are not equally full.
fn share(entries: u64, max_bytes: u64, total_bytes: u64) -> usize {
    if total_bytes <= max_bytes {
        return usize::MAX;
    }
    let fits = u128::from(entries) * u128::from(max_bytes) / u128::from(total_bytes);
    usize::try_from(fits).unwrap_or(usize::MAX)
}

#[expect(clippy::disallowed_methods, reason = "runs on a thread for blocking work")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_give_up_the_same_share_of_their_entries() {
        assert_eq!(share(100, 1_000, 4_000), 25);
        assert_eq!(share(0, 1_000, 4_000), 0);
        assert_eq!(share(100, 1_000, 1_000), usize::MAX);
    }
}
