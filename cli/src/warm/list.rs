//! A list of keys in a file, one a line.

use std::fs::File;
use std::io::{self, Read, stdin};
use std::path::Path;

use bytes::Bytes;

use crate::exit::BadConfiguration;
use crate::input::STDIN;
use crate::keys::from_base64;

/// A longer list has to be split: it is in memory as a whole.
const MAX_BYTES: u64 = 256 << 20;

/// Reads the keys of a file. They share its buffer, unless they are base64.
///
/// # Errors
/// It cannot be read, it is too large, or a line is not base64.
pub(super) fn read(path: &Path, is_base64: bool) -> Result<Vec<Bytes>, BadConfiguration> {
    let bytes = if path == Path::new(STDIN) {
        bytes(stdin().lock())
    } else {
        File::open(path).and_then(bytes)
    };
    let name = path.display();
    let bytes = bytes.map_err(|e| BadConfiguration(format!("{name} cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!("{name} has more than {} MiB: split it", MAX_BYTES >> 20);
        return Err(BadConfiguration(text));
    }
    keys(&bytes, is_base64).map_err(|problem| BadConfiguration(format!("{name}: {problem}")))
}

fn bytes(file: impl Read) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The lines that are not empty. A line ends with `\n` or `\r\n`.
fn keys(text: &Bytes, is_base64: bool) -> Result<Vec<Bytes>, String> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.map(|(at, line)| (at, line.strip_suffix(b"\r").unwrap_or(line)));
    let keys = lines.filter(|(_, line)| !line.is_empty()).map(|(at, line)| {
        if !is_base64 {
            return Ok(text.slice_ref(line));
        }
        let decoded = std::str::from_utf8(line).map_err(|e| e.to_string()).and_then(from_base64);
        decoded.map_err(|problem| format!("line {}: {problem}", at + 1))
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_not_empty_is_a_key() {
        let text = Bytes::from_static(b"Tom\r\n\n two words \nAnn");
        assert_eq!(keys(&text, false).expect("keys"), ["Tom", " two words ", "Ann"]);
        assert_eq!(keys(&Bytes::new(), false).expect("none"), [""; 0]);
    }

    #[test]
    fn a_line_that_is_not_base64_is_named() {
        let text = Bytes::from_static(b"/wA=\n\nCg==\n");
        assert_eq!(keys(&text, true).expect("keys"), [&b"\xff\x00"[..], b"\n"]);
        let problem = keys(&Bytes::from_static(b"/wA=\n?"), true).expect_err("refused");
        assert!(problem.starts_with("line 2: not base64: "), "{problem}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_wrong_usage() {
        let error = read(Path::new("/nowhere/keys"), false).expect_err("no such file");
        assert!(error.to_string().starts_with("/nowhere/keys cannot be read: "), "{error}");
    }
}
