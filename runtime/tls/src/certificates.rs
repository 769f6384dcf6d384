//! The material in force, and its replacement after the files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::UnixTime;

use crate::error::Error;
use crate::files::{self, Identity, Pem};
use crate::material::{Material, Usage};

/// Where certificates come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder with `ca.crt`, `tls.crt` and `tls.key`, such as a mounted Secret.
    Directory(PathBuf),
    /// Files by name.
    Files {
        /// Certificates of the authorities.
        ca: PathBuf,
        /// Certificate chain and private key.
        identity: Option<(PathBuf, PathBuf)>,
    },
    /// Texts, which never change.
    Pem(Pem),
}

/// Certificates of a process. Always usable: what cannot be used is not taken over.
#[derive(Debug)]
pub struct Certificates {
    source: Source,
    usage: Usage,
    current: ArcSwap<Material>,
    files: Mutex<Files>,
}

/// What was read.
#[derive(Debug)]
struct Files {
    /// The texts of the material in force.
    current: Pem,
    /// Why the files were refused the last time.
    refused: Option<String>,
    polled: Instant,
}

/// What a look at the files found.
#[derive(Debug)]
pub enum Poll {
    /// Nothing that an earlier one had not.
    Unchanged,
    /// New certificates, which are in force now.
    Replaced(Arc<Material>),
    /// New files that cannot be used. The certificates in force stay.
    Refused(Error),
}

impl Certificates {
    /// Reads and checks the certificates.
    ///
    /// # Errors
    /// The files cannot be read or used.
    pub fn open(source: Source, usage: Usage) -> Result<Self, Error> {
        let (current, material) = source.read(usage)?;
        let files = Files { current, refused: None, polled: Instant::now() };
        Ok(Self {
            source,
            usage,
            current: ArcSwap::from_pointee(material),
            files: Mutex::new(files),
        })
    }

    /// The certificates in force.
    #[must_use]
    pub fn current(&self) -> Arc<Material> {
        self.current.load_full()
    }

    /// Reads the files again. Takes over what changed, if it can be used: all of it or nothing.
    pub fn poll(&self) -> Poll {
        let mut files = self.files.lock();
        files.polled = Instant::now();
        let error = match self.source.load() {
            Ok(pem) if pem == files.current => {
                files.refused = None;
                return Poll::Unchanged;
            }
            Ok(pem) => match self.source.check(&pem, self.usage) {
                Ok(material) => {
                    let material = Arc::new(material);
                    self.current.store(material.clone());
                    (files.current, files.refused) = (pem, None);
                    return Poll::Replaced(material);
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let text = error.to_string();
        if files.refused.as_ref() == Some(&text) {
            return Poll::Unchanged;
        }
        files.refused = Some(text);
        Poll::Refused(error)
    }

    /// [`Certificates::poll`], unless the last one is younger than `age`.
    pub fn poll_if_older(&self, age: Duration) -> Poll {
        if self.files.lock().polled.elapsed() < age { Poll::Unchanged } else { self.poll() }
    }

    /// True while the files differ from the certificates in force and cannot be used.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.files.lock().refused.is_some()
    }
}

impl Source {
    /// For error messages.
    fn place(&self) -> String {
        match self {
            Self::Directory(directory) => directory.display().to_string(),
            Self::Files { ca, .. } => ca.parent().unwrap_or(Path::new("")).display().to_string(),
            Self::Pem(_) => String::new(),
        }
    }

    fn load(&self) -> Result<Pem, Error> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        match self {
            Self::Directory(directory) => files::load(directory),
            Self::Files { ca, identity } => {
                let pair = |(certificate, key): &(PathBuf, PathBuf)| {
                    Ok(Identity { certificate: read(certificate)?, key: read(key)? })
                };
                Ok(Pem { ca: read(ca)?, identity: identity.as_ref().map(pair).transpose()? })
            }
            Self::Pem(pem) => Ok(pem.clone()),
        }
    }

    fn check(&self, pem: &Pem, usage: Usage) -> Result<Material, Error> {
        Material::new(pem, &self.place(), usage, UnixTime::now())
    }

    fn read(&self, usage: Usage) -> Result<(Pem, Material), Error> {
        let pem = self.load()?;
        let material = self.check(&pem, usage)?;
        Ok((pem, material))
    }
}

#[cfg(test)]
mod tests;
