//! Why certificates cannot be used.

use std::path::PathBuf;

/// Why the certificates cannot be loaded. The text names the file and the reason, never a key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the docs would")]
pub enum Error {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} contains only one of tls.crt and tls.key", directory.display())]
    HalfPair { directory: PathBuf },
    #[error("{file}: {problem}")]
    Invalid { file: String, problem: Problem },
}

/// What is wrong with the content of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the docs would")]
pub enum Problem {
    #[error("it contains no certificate in PEM form")]
    NoCertificate,
    #[error("it contains no private key in PEM form")]
    NoKey,
    #[error("a certificate is needed as well as authorities")]
    NoIdentity,
    #[error("it is not a certificate: {0}")]
    NotACertificate(String),
    #[error("it is not a usable private key: {0}")]
    UnusableKey(String),
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    #[error("the certificate expired on {0}")]
    Expired(String),
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
    #[error("every authority has expired, the last one on {0}")]
    AuthoritiesExpired(String),
    #[error("no authority of ca.crt signed the certificate")]
    UnknownAuthority,
    #[error("the certificate may not be used to {purpose}: {reason}")]
    Purpose { purpose: &'static str, reason: String },
}
