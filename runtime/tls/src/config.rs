//! rustls configurations of the certificates in force.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};

use crate::certificates::Certificates;
use crate::material::{Material, provider};
use crate::names::{NameCheck, Named};

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Makes the configuration of a server that requires a certificate of each client.
///
/// A new configuration follows new certificates. It starts without sessions to resume, so a client
/// proves its identity again.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared<ServerConfig>>,
}

/// Makes the configuration of a client.
#[derive(Clone)]
pub struct ClientTls {
    shared: Arc<Shared<ClientConfig>>,
}

struct Shared<C> {
    certificates: Arc<Certificates>,
    /// Protocols that are offered in handshakes.
    alpn: Vec<Vec<u8>>,
    check: Option<NameCheck>,
    built: ArcSwapOption<(Arc<Material>, Arc<C>)>,
}

impl ServerTls {
    /// Serves the protocols `alpn`. Without a `check`, every client with a certificate of an
    /// authority may connect.
    #[must_use]
    pub fn new(certificates: Arc<Certificates>, alpn: &[&str], check: Option<NameCheck>) -> Self {
        Self { shared: Shared::new(certificates, alpn, check) }
    }

    /// The configuration for the next handshake.
    ///
    /// # Panics
    /// If the certificates were opened for a client.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.shared.config(|material, check, alpn| {
            let key = material.key.clone().expect("a server's material has a certificate");
            let clients = match check {
                Some(check) => {
                    let verifier = material.clients.clone();
                    Arc::new(Named { verifier, check })
                }
                None => material.clients.clone(),
            };
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .expect("ring knows TLS 1.2 and 1.3")
                .with_client_cert_verifier(clients)
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
            config.alpn_protocols = alpn;
            config
        })
    }
}

impl ClientTls {
    /// Calls over the protocols `alpn`. Without a `check`, every server with the expected DNS name
    /// and a certificate of an authority is called.
    #[must_use]
    pub fn new(certificates: Arc<Certificates>, alpn: &[&str], check: Option<NameCheck>) -> Self {
        Self { shared: Shared::new(certificates, alpn, check) }
    }

    /// The certificates that the configuration follows.
    #[must_use]
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.shared.certificates
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.shared.config(|material, check, alpn| {
            let servers = match check {
                Some(check) => {
                    let verifier = material.servers.clone();
                    Arc::new(Named { verifier, check })
                }
                None => material.servers.clone(),
            };
            let builder = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)
                .expect("ring knows TLS 1.2 and 1.3")
                .dangerous()
                .with_custom_certificate_verifier(servers);
            let mut config = match material.key.clone() {
                Some(key) => {
                    builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = alpn;
            config
        })
    }
}

impl<C> Shared<C> {
    fn new(certificates: Arc<Certificates>, alpn: &[&str], check: Option<NameCheck>) -> Arc<Self> {
        let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(Self { certificates, alpn, check, built: ArcSwapOption::empty() })
    }

    /// The configuration of the material in force. Two callers may build it at the same time; one
    /// of the two stays.
    fn config(
        &self,
        build: impl FnOnce(&Material, Option<NameCheck>, Vec<Vec<u8>>) -> C,
    ) -> Arc<C> {
        let material = self.certificates.current();
        if let Some(built) = &*self.built.load()
            && Arc::ptr_eq(&built.0, &material)
        {
            return built.1.clone();
        }
        let config = Arc::new(build(&material, self.check.clone(), self.alpn.clone()));
        self.built.store(Some(Arc::new((material, config.clone()))));
        config
    }
}
