//! Certificates for servers of the tests, made with openssl 3 in a temporary folder.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::process;

/// A certificate authority of one test.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Panics
    /// When openssl is missing or fails.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        openssl(folder.path(), "ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        Self { folder }
    }

    /// Issues a certificate for clients, and for servers with the names `serves` (`DNS:name`).
    /// Stores it in a Secret as `tls.crt` and `tls.key`, with the `ca.crt` of `trusted`.
    ///
    /// # Panics
    /// When openssl or kubectl fails.
    pub fn secret(
        &self,
        cluster: &Cluster,
        (namespace, name): (&str, &str),
        serves: &str,
        trusted: &Self,
    ) {
        let folder = self.folder.path();
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let (ca, ca_key) = (certificate.display().to_string(), key.display().to_string());
        let names = format!("subjectAltName={serves}");
        let issued = ["-CA", &ca, "-CAkey", &ca_key, "-addext", &names];
        let plain = ["-addext", "basicConstraints=critical,CA:FALSE"];
        openssl(folder, name, &[&issued[..], &plain].concat());
        let file = |key: &str, path: &Path| format!("--from-file={key}={}", path.display());
        let yaml = cluster.must(&[
            "create",
            "secret",
            "generic",
            name,
            "--dry-run=client",
            "--output=yaml",
            &file("ca.crt", &trusted.folder.path().join("ca.crt")),
            &file("tls.crt", &folder.join(format!("{name}.crt"))),
            &file("tls.key", &folder.join(format!("{name}.key"))),
        ]);
        cluster.apply(namespace, &yaml).expect("a Secret can be created");
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Creates a key and a certificate, `<name>.key` and `<name>.crt`.
fn openssl(folder: &Path, name: &str, more: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")]).args(more);
    command.arg("-keyout").arg(folder.join(format!("{name}.key")));
    command.arg("-out").arg(folder.join(format!("{name}.crt")));
    process::output(&mut command).unwrap_or_else(|e| panic!("openssl: {e}"));
}
