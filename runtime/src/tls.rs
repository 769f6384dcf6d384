//! Certificates from a folder with the files of a Kubernetes TLS Secret.

use std::path::{Path, PathBuf};

/// File with the certificates of the certificate authority.
pub const CA_FILE: &str = "ca.crt";
/// File with the certificate of this process.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// File with the private key of this process.
pub const KEY_FILE: &str = "tls.key";

/// Why the certificates cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the docs would")]
pub enum Error {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} contains only one of {CERTIFICATE_FILE} and {KEY_FILE}", directory.display())]
    HalfPair { directory: PathBuf },
}

/// PEM texts. `Debug` never prints the private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// Certificates of the certificate authority.
    pub ca: Vec<u8>,
    /// Certificate and private key for client authentication.
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

/// Reads `ca.crt` and, if present, `tls.crt` and `tls.key`.
///
/// # Errors
/// `ca.crt` is missing, a file cannot be read, or only one of certificate and key exists.
pub fn load(directory: &Path) -> Result<Pem, Error> {
    let ca = read(directory.join(CA_FILE))?;
    let certificate = read_if_present(directory.join(CERTIFICATE_FILE))?;
    let key = read_if_present(directory.join(KEY_FILE))?;
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

fn read_if_present(path: PathBuf) -> Result<Option<Vec<u8>>, Error> {
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
}
