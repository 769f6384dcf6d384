//! Files of resources that a user names.

use std::io::{Read, stdin};
use std::path::Path;

use crate::exit::BadConfiguration;

/// The path that names standard input.
pub(crate) const STDIN: &str = "-";

/// A file's name for messages, and its text.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<(String, String), BadConfiguration> {
    let mut text = String::new();
    let (name, read) = if path == Path::new(STDIN) {
        ("standard input".to_owned(), stdin().lock().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    match read {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(BadConfiguration(format!("{name} cannot be read: {error}"))),
    }
}
