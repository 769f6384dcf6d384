//! Pure: PEM texts to keys and authorities that can be used, or the reason why not.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer, Validity, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::error::{Error, Problem};
use crate::files::{CA_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, Pem};
use crate::names::uris;

/// What the process does with its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It serves with it and calls others with it. A certificate is needed.
    Server,
    /// It calls others with it. Without one it calls anonymously.
    Client,
}

/// Certificates that have been checked.
#[derive(Debug)]
pub struct Material {
    pub(crate) key: Option<Arc<CertifiedKey>>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) servers: Arc<dyn ServerCertVerifier>,
    uris: Vec<String>,
    not_after_s: Option<i64>,
    authority_not_after_s: i64,
}

impl Material {
    /// Checks `pem`, whose files are in `place`, for `usage` at the time `now`.
    ///
    /// An authority that has expired is left out.
    ///
    /// # Errors
    /// A text is not PEM; the key does not belong to the certificate; the certificate has expired,
    /// is not valid yet, is not signed by an authority or may not be used for `usage`; every
    /// authority has expired; a server has no certificate.
    pub fn new(pem: &Pem, place: &str, usage: Usage, now: UnixTime) -> Result<Self, Error> {
        let authorities =
            authorities(&pem.ca, now).map_err(|problem| invalid(place, CA_FILE, problem))?;
        let Authorities { clients, servers, not_after_s: authority_not_after_s } = authorities;
        let Some(identity) = &pem.identity else {
            if usage == Usage::Server {
                return Err(invalid(place, CERTIFICATE_FILE, Problem::NoIdentity));
            }
            let (key, uris, not_after_s) = (None, Vec::new(), None);
            return Ok(Self { key, clients, servers, uris, not_after_s, authority_not_after_s });
        };
        let key = pair(identity, place, now)?;
        let of_certificate = |problem| invalid(place, CERTIFICATE_FILE, problem);
        check_chain(&key, &*clients, &*servers, usage, now).map_err(of_certificate)?;
        let leaf = parse(&key.cert[0]).map_err(of_certificate)?;
        let not_after_s = Some(leaf.validity().not_after.timestamp());
        let uris = uris(&leaf);
        let key = Some(Arc::new(key));
        Ok(Self { key, clients, servers, uris, not_after_s, authority_not_after_s })
    }

    /// Checks only that the private key of `pem` belongs to its certificate, and that this has not
    /// expired. For a server whose clients another authority signs than the one that signs itself.
    ///
    /// # Errors
    /// As [`Material::new`].
    pub fn check_pair(pem: &Pem, place: &str, now: UnixTime) -> Result<(), Error> {
        match &pem.identity {
            Some(identity) => pair(identity, place, now).map(|_| ()),
            None => Ok(()),
        }
    }

    /// URI names of the process's own certificate.
    #[must_use]
    pub fn uri_names(&self) -> &[String] {
        &self.uris
    }

    /// When the process's own certificate expires, as a Unix time.
    #[must_use]
    pub fn not_after_s(&self) -> Option<i64> {
        self.not_after_s
    }

    /// When the authority that is valid the longest expires, as a Unix time.
    #[must_use]
    pub fn authority_not_after_s(&self) -> i64 {
        self.authority_not_after_s
    }
}

struct Authorities {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
    not_after_s: i64,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(Problem::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Problem::NotACertificate(error.to_string())),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Problem> {
    let parsed = X509Certificate::from_der(der);
    parsed.map(|(_, parsed)| parsed).map_err(|e| Problem::NotACertificate(e.to_string()))
}

fn authorities(pem: &[u8], now: UnixTime) -> Result<Authorities, Problem> {
    let (mut roots, mut last) = (RootCertStore::empty(), None);
    for der in certificates(pem)? {
        let validity = parse(&der)?.validity().clone();
        last = last.max(Some(validity.not_after));
        // A trust anchor's own validity is not checked in handshakes, so it is checked here.
        if seconds(now) <= validity.not_after.timestamp() {
            roots.add(der).map_err(|error| Problem::NotACertificate(error.to_string()))?;
        }
    }
    let last = last.ok_or(Problem::NoCertificate)?;
    if roots.is_empty() {
        return Err(Problem::AuthoritiesExpired(text(last)));
    }
    let (roots, provider) = (Arc::new(roots), provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider);
    Ok(Authorities {
        clients: clients.build().expect("there are authorities and no revocation lists"),
        servers: servers.build().expect("there are authorities and no revocation lists"),
        not_after_s: last.timestamp(),
    })
}

/// A private key with its certificate, which is valid now.
fn pair(identity: &Identity, place: &str, now: UnixTime) -> Result<CertifiedKey, Error> {
    let of_certificate = |problem| invalid(place, CERTIFICATE_FILE, problem);
    let chain = certificates(&identity.certificate).map_err(of_certificate)?;
    let key =
        certified_key(identity, chain).map_err(|problem| invalid(place, KEY_FILE, problem))?;
    let leaf = parse(&key.cert[0]).map_err(of_certificate)?;
    check_validity(leaf.validity(), now).map_err(of_certificate)?;
    Ok(key)
}

fn invalid(place: &str, file: &str, problem: Problem) -> Error {
    let file = if place.is_empty() { file.into() } else { format!("{place}/{file}") };
    Error::Invalid { file, problem }
}

fn certified_key(
    identity: &Identity,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, Problem> {
    // The parser's error may quote the text.
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|_| Problem::NoKey)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Problem::KeyMismatch,
        other => Problem::UnusableKey(other.to_string()),
    })
}

fn check_validity(validity: &Validity, now: UnixTime) -> Result<(), Problem> {
    if seconds(now) > validity.not_after.timestamp() {
        return Err(Problem::Expired(text(validity.not_after)));
    }
    if seconds(now) < validity.not_before.timestamp() {
        return Err(Problem::NotYetValid(text(validity.not_before)));
    }
    Ok(())
}

/// Checks the certificate as the other end of a connection does.
fn check_chain(
    key: &CertifiedKey,
    clients: &dyn ClientCertVerifier,
    servers: &dyn ServerCertVerifier,
    usage: Usage,
    now: UnixTime,
) -> Result<(), Problem> {
    let (leaf, intermediates) = key.cert.split_first().expect("a chain begins with its leaf");
    let problem = |purpose: &'static str| {
        move |error: rustls::Error| match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                Problem::UnknownAuthority
            }
            other => Problem::Purpose { purpose, reason: other.to_string() },
        }
    };
    clients.verify_client_cert(leaf, intermediates, now).map_err(problem("call"))?;
    if usage == Usage::Client {
        return Ok(());
    }
    // Only the name of a caller's own choice is not known here.
    let name = "name.invalid".try_into().expect("a DNS name");
    match servers.verify_server_cert(leaf, intermediates, &name, &[], now) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(error) => Err(problem("serve")(error)),
    }
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn text(time: ASN1Time) -> String {
    time.to_rfc2822().unwrap_or_else(|_| format!("Unix time {}", time.timestamp()))
}

#[cfg(test)]
mod tests;
