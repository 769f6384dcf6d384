//! The folder with one file per credential. A file may appear late and change at any time, as the
//! files of a mounted Secret do.

use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;

/// The credentials folder. Its `Debug` form contains no credential.
#[derive(Debug, Clone)]
pub struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// The credentials in `directory`, which need not exist yet.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Reads a credential, without surrounding white space.
    ///
    /// # Errors
    /// The file is missing or unreadable, or its name points outside the folder.
    pub fn read(&self, file: &str) -> Result<String, Error> {
        let read = || {
            let path = self.path(file)?;
            Ok(std::fs::read_to_string(path)?.trim().to_owned())
        };
        read().map_err(|source| Error::Credential { file: file.to_owned(), source })
    }

    fn path(&self, file: &str) -> io::Result<PathBuf> {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file);
        if plain {
            Ok(self.directory.join(file))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_trimmed_and_read_only_from_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("inner")).expect("a folder");
        std::fs::write(folder.path().join("outer.url"), "secret\n").expect("written");
        assert_eq!(Credentials::new(folder.path()).read("outer.url").expect("there"), "secret");
        let credentials = Credentials::new(folder.path().join("inner"));
        for file in ["../outer.url", "/etc/passwd", "", ".", "..", "missing.url"] {
            let error = credentials.read(file).expect_err("not in the folder");
            assert_eq!(error.kind(), "credential", "{file}");
        }
    }
}
