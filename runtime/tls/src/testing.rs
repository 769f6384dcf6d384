//! Certificates for tests: authorities, leaves, and folders that change as a mounted Secret does.

#![expect(clippy::missing_panics_doc, reason = "tests panic")]

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::files::{CA_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, Pem};

/// When the certificates of this module expire, as a Unix time: the start of the year 2100.
pub const NOT_AFTER_S: i64 = 4_102_444_800;

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, Default)]
pub struct Leaf<'a> {
    /// DNS names and IP addresses.
    pub names: &'a [&'a str],
    /// URI names.
    pub uris: &'a [&'a str],
    /// Expired in 2020.
    pub expired: bool,
    /// For clients only.
    pub client_only: bool,
}

impl Authority {
    /// An authority that is valid until [`NOT_AFTER_S`].
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::until(name, 2100)
    }

    /// An authority that expired in 2020.
    #[must_use]
    pub fn expired(name: &str) -> Self {
        Self::until(name, 2020)
    }

    fn until(name: &str, year: i32) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a leaf with a new key.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf<'_>) -> Identity {
        let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in leaf.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().expect("ASCII")));
        }
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !leaf.client_only {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(if leaf.expired { 2020 } else { 2100 }, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Identity { certificate: certificate.into(), key: key.serialize_pem().into() }
    }

    /// A leaf of this authority together with the authority.
    #[must_use]
    pub fn pem_of(&self, leaf: &Leaf<'_>) -> Pem {
        Pem { ca: self.pem.clone().into(), identity: Some(self.issue(leaf)) }
    }
}

/// Puts `pem` into `directory` as Kubernetes does for a mounted Secret: a folder for each
/// generation, and a link to the current one, which changes at once.
pub fn mount(directory: &Path, pem: &Pem) {
    use std::os::unix::fs::symlink;
    let number = std::fs::read_dir(directory).expect("a folder").count();
    let generation = format!("..{number}");
    let folder = directory.join(&generation);
    std::fs::create_dir(&folder).expect("a folder");
    let Identity { certificate, key } = pem.identity.clone().expect("a pair");
    for (file, text) in [(CA_FILE, &pem.ca), (CERTIFICATE_FILE, &certificate), (KEY_FILE, &key)] {
        std::fs::write(folder.join(file), text).expect("written");
        let visible = directory.join(file);
        if !visible.is_symlink() {
            symlink(Path::new("..data").join(file), visible).expect("a link");
        }
    }
    let link = directory.join("..data_tmp");
    symlink(&generation, &link).expect("a link");
    std::fs::rename(link, directory.join("..data")).expect("replaced");
}
