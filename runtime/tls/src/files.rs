//! PEM texts from a folder with the files of a Kubernetes TLS Secret.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// File with the certificates of the certificate authorities.
pub const CA_FILE: &str = "ca.crt";
/// File with the certificate of this process, and those between it and an authority.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// File with the private key of this process.
pub const KEY_FILE: &str = "tls.key";

/// The link that Kubernetes replaces when the files of a mounted Secret change. Every file of the
/// folder is a link through it.
const GENERATION_LINK: &str = "..data";
/// Reads of a folder whose generation changes meanwhile.
const MAX_READS: u32 = 3;

/// PEM texts. `Debug` never prints the private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// Certificates of the certificate authorities.
    pub ca: Vec<u8>,
    /// Certificate and private key of this process.
    pub identity: Option<Identity>,
}

/// A certificate chain and its private key.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the type's docs name")]
pub struct Identity {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// Reads `ca.crt` and, if present, `tls.crt` and `tls.key`. All files of a mounted Secret are of
/// one generation.
///
/// # Errors
/// `ca.crt` is missing, a file cannot be read, or only one of certificate and key exists.
pub fn load(directory: &Path) -> Result<Pem, Error> {
    let mut reads = 1;
    loop {
        let generation = generation(directory);
        let loaded = load_generation(directory, generation.as_deref());
        // The old generation is removed after the link has changed: a file may vanish in between.
        if reads == MAX_READS || generation == self::generation(directory) {
            return loaded;
        }
        reads += 1;
    }
}

/// The folder of the current generation; `None` if the folder is not a mounted Secret.
fn generation(directory: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(directory.join(GENERATION_LINK)).ok()?;
    Some(directory.join(target))
}

fn load_generation(directory: &Path, generation: Option<&Path>) -> Result<Pem, Error> {
    let folder = generation.unwrap_or(directory);
    let read = |file: &str| {
        // The error has the path by which a person finds the file.
        std::fs::read(folder.join(file))
            .map_err(|source| Error::Read { path: directory.join(file), source })
    };
    let ca = read(CA_FILE)?;
    let certificate = if_present(read(CERTIFICATE_FILE))?;
    let key = if_present(read(KEY_FILE))?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err(Error::HalfPair { directory: directory.to_owned() }),
    };
    Ok(Pem { ca, identity })
}

fn if_present(read: Result<Vec<u8>, Error>) -> Result<Option<Vec<u8>>, Error> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_its_certificate_is_refused_and_the_error_names_a_missing_authority() {
        let directory = tempfile::tempdir().expect("a folder");
        let error = load(directory.path()).expect_err("empty");
        assert!(error.to_string().ends_with("ca.crt cannot be read"), "{error}");

        std::fs::write(directory.path().join(CA_FILE), "ca").expect("write");
        assert!(load(directory.path()).expect("only an authority").identity.is_none());

        std::fs::write(directory.path().join(KEY_FILE), "key").expect("write");
        assert!(matches!(load(directory.path()), Err(Error::HalfPair { .. })));

        std::fs::write(directory.path().join(CERTIFICATE_FILE), "crt").expect("write");
        let pem = load(directory.path()).expect("whole");
        assert!(pem.identity.is_some());
        assert_eq!(format!("{pem:?}"), "Pem { identity: true, .. }");
    }

    #[test]
    fn the_files_of_a_mounted_secret_are_of_one_generation() {
        let directory = tempfile::tempdir().expect("a folder");
        let mount = |generation: &str| {
            let folder = directory.path().join(generation);
            std::fs::create_dir(&folder).expect("a folder");
            for file in [CA_FILE, CERTIFICATE_FILE, KEY_FILE] {
                std::fs::write(folder.join(file), generation).expect("write");
            }
            let link = directory.path().join("..new");
            std::os::unix::fs::symlink(generation, &link).expect("a link");
            std::fs::rename(link, directory.path().join(GENERATION_LINK)).expect("replaced");
        };
        for generation in ["..1", "..2"] {
            mount(generation);
            let pem = load(directory.path()).expect("whole");
            let identity = pem.identity.expect("a pair");
            for text in [pem.ca, identity.certificate, identity.key] {
                assert_eq!(text, generation.as_bytes());
            }
        }
        std::fs::remove_file(directory.path().join("..2").join(CA_FILE)).expect("removed");
        let error = load(directory.path()).expect_err("torn").to_string();
        assert!(!error.contains("..2") && error.ends_with("ca.crt cannot be read"), "{error}");
    }
}
