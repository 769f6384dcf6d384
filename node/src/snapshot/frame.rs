//! Files of checked frames. A file begins with [`MAGIC`], whose last byte is the version of the
//! format. Each frame is the length of a message, its CRC-32, both as 32 bits in little endian, and
//! the message.

use std::io::{ErrorKind, Read};

use prost::Message;

const MAGIC: [u8; 8] = *b"larder\x00\x01";
const HEADER_BYTES: usize = 8;
/// A frame holds at most a log of invalidations, 8 MiB, and the longest value.
const MAX_FRAME_BYTES: u32 = 32 << 20;

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    #[error("is not a file of this format and version")]
    Foreign,
    #[error("is incomplete")]
    Torn,
    #[error("is damaged")]
    Damaged,
}

/// Reads the frames of one file.
pub(super) struct Frames<R> {
    reader: R,
}

/// The start of a file.
pub(super) fn begin() -> Vec<u8> {
    MAGIC.to_vec()
}

/// Appends a frame.
pub(super) fn push(out: &mut Vec<u8>, message: &impl Message) {
    let start = out.len();
    out.extend([0; HEADER_BYTES]);
    message.encode(out).expect("a vector grows as needed");
    let bytes = &out[start + HEADER_BYTES..];
    let length = u32::try_from(bytes.len()).expect("below the limit of a frame");
    let checksum = crc32fast::hash(bytes);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

impl<R: Read> Frames<R> {
    pub(super) fn open(mut reader: R) -> Result<Self, FrameError> {
        let mut magic = [0; MAGIC.len()];
        match read_full(&mut reader, &mut magic)? {
            read if read < magic.len() => Err(FrameError::Torn),
            _ if magic != MAGIC => Err(FrameError::Foreign),
            _ => Ok(Self { reader }),
        }
    }

    /// The next message; `None` at the end of the file.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let mut header = [0; HEADER_BYTES];
        match read_full(&mut self.reader, &mut header)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            _ => return Err(FrameError::Torn),
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let (length, checksum) = (word(0), word(4));
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::Damaged);
        }
        let mut bytes = Vec::new();
        let limit = u64::from(length);
        let read = (&mut self.reader).take(limit).read_to_end(&mut bytes);
        if (read.map_err(FrameError::Read)? as u64) < limit {
            return Err(FrameError::Torn);
        }
        if crc32fast::hash(&bytes) != checksum {
            return Err(FrameError::Damaged);
        }
        M::decode(bytes::Bytes::from(bytes)).map(Some).map_err(|_| FrameError::Damaged)
    }
}

/// Returns fewer bytes than asked only at the end of the file.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Read(error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use larder_proto::v1::SnapshotEnd;

    use super::*;

    fn file() -> Vec<u8> {
        let mut file = begin();
        push(&mut file, &SnapshotEnd { entries: 300 });
        push(&mut file, &SnapshotEnd { entries: 7 });
        file
    }

    fn read(file: &[u8]) -> (Vec<u64>, Option<FrameError>) {
        let mut entries = Vec::new();
        let mut frames = match Frames::open(file) {
            Ok(frames) => frames,
            Err(error) => return (entries, Some(error)),
        };
        loop {
            match frames.next::<SnapshotEnd>() {
                Ok(Some(end)) => entries.push(end.entries),
                Ok(None) => return (entries, None),
                Err(error) => return (entries, Some(error)),
            }
        }
    }

    #[test]
    fn frames_are_read_as_written() {
        let (entries, error) = read(&file());
        assert_eq!(entries, [300, 7]);
        assert!(error.is_none());
    }

    #[test]
    fn a_file_cut_anywhere_gives_its_whole_frames() {
        let file = file();
        let (first, second) = (MAGIC.len(), MAGIC.len() + HEADER_BYTES + 3);
        for end in 0..file.len() {
            let (entries, error) = read(&file[..end]);
            assert_eq!(entries.len(), usize::from(end >= second), "{end}");
            let whole = end == first || end == second;
            assert_eq!(error.is_none(), whole, "{end}");
            assert!(error.is_none_or(|error| matches!(error, FrameError::Torn)), "{end}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_anywhere() {
        for at in 0..file().len() {
            let mut file = file();
            file[at] ^= 0x20;
            let (entries, error) = read(&file);
            assert!(error.is_some(), "{at}: {entries:?}");
        }
    }
}
