//! The flags for TLS, and where certificates are found without them.

use std::path::{Path, PathBuf};

use clap::Args;
use larder_client::{Endpoint, Tls};

use crate::exit::BadConfiguration;

/// Where a pod mounts the bundle of a client by convention.
pub(crate) const MOUNTED_BUNDLE: &str = "/var/run/larder/tls";

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsFlags {
    /// Folder with ca.crt, tls.crt and tls.key, as in a client's Secret [default:
    /// /var/run/larder/tls, if it exists and the endpoint is not on loopback]
    #[arg(long, env = "LARDER_TLS_DIR", hide_env_values = true, value_name = "DIR")]
    tls_dir: Option<PathBuf>,

    /// Authorities that sign the members' certificates, in place of the folder's ca.crt
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Certificate of this client, in place of the folder's tls.crt
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of this client, in place of the folder's tls.key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Name that a member's certificate must contain [default: that of the cluster which the
    /// client's certificate names]
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl TlsFlags {
    /// How `endpoint` is called over TLS; `None` in plain text.
    ///
    /// # Errors
    /// The flags contradict each other or the endpoint.
    pub(super) fn for_endpoint(&self, endpoint: &Endpoint) -> anyhow::Result<Option<Tls>> {
        let Some(tls) = self.certificates(endpoint, Path::new(MOUNTED_BUNDLE))? else {
            if endpoint.is_https() {
                let text = format!("{endpoint}: https needs certificates: give --tls-dir");
                return Err(BadConfiguration(text).into());
            }
            return Ok(None);
        };
        Ok(Some(match &self.tls_server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        }))
    }

    fn certificates(&self, endpoint: &Endpoint, bundle: &Path) -> anyhow::Result<Option<Tls>> {
        let in_folder = |file: &str| self.tls_dir.as_ref().map(|folder| folder.join(file));
        let ca = self.tls_ca.clone();
        let pair = self.tls_cert.clone().zip(self.tls_key.clone());
        if ca.is_some() || pair.is_some() {
            let ca = ca
                .or_else(|| in_folder("ca.crt"))
                .ok_or_else(|| BadConfiguration("--tls-cert needs --tls-ca or --tls-dir".into()))?;
            let pair = pair.or_else(|| in_folder("tls.crt").zip(in_folder("tls.key")));
            return Ok(Some(Tls::files(ca, pair)));
        }
        if let Some(folder) = &self.tls_dir {
            return Ok(Some(Tls::directory(folder)));
        }
        // On loopback a sidecar or a port-forward answers, which need not be of this cluster.
        let is_found = !endpoint.is_http()
            && (endpoint.is_https() || !endpoint.is_loopback())
            && bundle.join("ca.crt").exists();
        Ok(is_found.then(|| Tls::directory(bundle)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        tls: TlsFlags,
    }

    fn flags(args: &[&str]) -> TlsFlags {
        let args = ["larder"].iter().chain(args);
        Program::try_parse_from(args).expect("valid").tls
    }

    #[test]
    fn the_mounted_bundle_is_used_for_members_and_not_on_loopback() {
        let folder = tempfile::tempdir().expect("a folder");
        let found = |endpoint: &str| {
            let endpoint = endpoint.parse().expect("an endpoint");
            flags(&[]).certificates(&endpoint, folder.path()).expect("no contradiction").is_some()
        };
        assert!(!found("shop.prod.svc") && !found("https://shop.prod.svc"), "there is none");
        std::fs::write(folder.path().join("ca.crt"), "ca").expect("written");
        for (endpoint, is_used) in [
            ("shop.prod.svc", true),
            ("10.0.0.1:7600", true),
            ("https://127.0.0.1", true),
            ("127.0.0.1", false),
            ("localhost:7600", false),
            ("[::1]", false),
            ("http://shop.prod.svc", false),
        ] {
            assert_eq!(found(endpoint), is_used, "{endpoint}");
        }
    }

    #[test]
    fn files_replace_those_of_the_folder_and_a_pair_needs_an_authority() {
        let endpoint = "shop".parse().expect("an endpoint");
        let none = Path::new("/nowhere");
        let pair = ["--tls-cert", "c", "--tls-key", "k"];
        let error = flags(&pair).certificates(&endpoint, none).expect_err("no authority");
        assert_eq!(error.to_string(), "--tls-cert needs --tls-ca or --tls-dir");
        let tls = flags(&["--tls-dir", "d", "--tls-ca", "a"]).certificates(&endpoint, none);
        let text = format!("{:?}", tls.expect("valid").expect("TLS"));
        assert!(text.contains("\"a\"") && text.contains("\"d/tls.key\""), "{text}");
        assert!(Program::try_parse_from(["larder", "--tls-cert", "c"]).is_err(), "half a pair");
    }
}
