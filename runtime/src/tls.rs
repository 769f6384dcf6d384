//! Certificates from a folder in the form of a Kubernetes TLS Secret.

use std::path::{Path, PathBuf};

/// Name of the authority's certificates in the folder.
pub const CA_FILE: &str = "ca.crt";
/// Name of our certificate.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// Name of our private key.
pub const KEY_FILE: &str = "tls.key";

/// The folder does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("{} holds only one of {CERTIFICATE_FILE} and {KEY_FILE}", directory.display())]
    HalfPair {
        /// The folder.
        directory: PathBuf,
    },
}

/// PEM texts. The private key is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The authority's certificates.
    pub ca: Vec<u8>,
    /// Our certificate and its private key, for client authentication.
    pub identity: Option<Identity>,
}

/// A certificate with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our certificate chain.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// Reads `ca.crt`, and `tls.crt` with `tls.key` when they are there.
///
/// # Errors
/// A missing `ca.crt`, an unreadable file, or half a pair.
pub fn load(directory: &Path) -> Result<Pem, Error> {
    let ca = read(directory.join(CA_FILE))?;
    let certificate = read_if_there(directory.join(CERTIFICATE_FILE))?;
    let key = read_if_there(directory.join(KEY_FILE))?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err(Error::HalfPair { directory: directory.to_owned() }),
    };
    Ok(Pem { ca, identity })
}

fn read(path: PathBuf) -> Result<Vec<u8>, Error> {
    std::fs::read(&path).map_err(|source| Error::Read { path, source })
}

fn read_if_there(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_refused_and_a_missing_authority_named() {
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
}
