//! TLS to the members: certificates, and a [`Network`] that encrypts what another one carries.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use larder_proto::identity::Identity;
use larder_tls::{Certificates, ClientTls, Pem, Poll, Source, Usage};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::endpoint::{Endpoint, Target};
use crate::error::BuildError;
use crate::network::{Connection, Network};
use crate::tls_error::explain;

/// New connections read the files again if they were read longer ago than this.
const POLL_AGE: Duration = Duration::from_secs(5);
/// Time limit of a handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// Certificates for calls to the members.
///
/// Files are read again for new connections, at most every five seconds. New files that cannot be
/// used are reported with a warning, and the earlier certificates stay in use.
///
/// ```no_run
/// use larder_client::{Client, Tls};
///
/// let client = Client::builder()
///     .dns("https://shop-members.prod.svc")
///     .tls(Tls::directory("/var/run/larder/tls"))
///     .build()?;
/// # Ok::<(), larder_client::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tls {
    certificates: ClientCertificates,
    server_name: Option<String>,
}

#[derive(Debug, Clone)]
enum ClientCertificates {
    Source(Source),
    Opened(Arc<Certificates>),
}

impl Tls {
    /// A folder with `ca.crt`, `tls.crt` and `tls.key`, such as a mounted Secret.
    #[must_use]
    pub fn directory(directory: impl Into<PathBuf>) -> Self {
        Source::Directory(directory.into()).into()
    }

    /// Files in PEM form: the authorities that sign the members' certificates, and the client's
    /// own certificate with its private key.
    #[must_use]
    pub fn files(ca: impl Into<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Self {
        Source::Files { ca: ca.into(), identity }.into()
    }

    /// As [`Tls::files`], with the texts in place of the files.
    #[must_use]
    pub fn pem(ca: impl Into<Vec<u8>>, identity: Option<(Vec<u8>, Vec<u8>)>) -> Self {
        let identity = identity.map(|(certificate, key)| larder_tls::Identity { certificate, key });
        Source::Pem(Pem { ca: ca.into(), identity }).into()
    }

    /// Certificates that the program keeps up to date itself.
    #[must_use]
    pub fn certificates(certificates: Arc<Certificates>) -> Self {
        let certificates = ClientCertificates::Opened(certificates);
        Self { certificates, server_name: None }
    }

    /// The DNS name that a member's certificate must contain, whatever address is called.
    ///
    /// Default: `CLUSTER.NAMESPACE.svc` of the cluster that the client's own certificate names;
    /// without such a name, the host of the first endpoint.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    fn open(&self) -> Result<Arc<Certificates>, BuildError> {
        match &self.certificates {
            ClientCertificates::Opened(certificates) => Ok(certificates.clone()),
            ClientCertificates::Source(source) => {
                let opened = Certificates::open(source.clone(), Usage::Client);
                opened.map(Arc::new).map_err(|error| BuildError::Certificates(describe(&error)))
            }
        }
    }
}

impl From<Source> for Tls {
    fn from(source: Source) -> Self {
        Self { certificates: ClientCertificates::Source(source), server_name: None }
    }
}

/// `network`, encrypted if there are certificates.
///
/// # Errors
/// The scheme of an endpoint contradicts that, or the certificates cannot be used.
pub(crate) fn network(
    network: Arc<dyn Network>,
    tls: Option<Tls>,
    endpoints: &[Endpoint],
) -> Result<Arc<dyn Network>, BuildError> {
    let contradiction = |endpoint: Option<&Endpoint>, problem| match endpoint {
        Some(endpoint) => Err(BuildError::Scheme { endpoint: endpoint.to_string(), problem }),
        None => Ok(()),
    };
    let Some(tls) = tls else {
        let https = endpoints.iter().find(|endpoint| endpoint.is_https());
        contradiction(https, "https needs the certificates of a client")?;
        return Ok(network);
    };
    let http = endpoints.iter().find(|endpoint| endpoint.is_http());
    contradiction(http, "there are certificates: use https:// or no scheme")?;
    let certificates = tls.open()?;
    let server_name = server_name(&tls, &certificates, endpoints)?;
    let reads_files = matches!(tls.certificates, ClientCertificates::Source(_));
    let tls = ClientTls::new(certificates, &["h2"], None);
    Ok(Arc::new(Encrypted { network, tls, server_name, reads_files }))
}

fn server_name(
    tls: &Tls,
    certificates: &Certificates,
    endpoints: &[Endpoint],
) -> Result<ServerName<'static>, BuildError> {
    let of_certificate = || {
        let material = certificates.current();
        let identity = Identity::of_certificate(material.uri_names()).ok()??;
        Some(identity.server_name())
    };
    let of_endpoint = || {
        endpoints.iter().find_map(|endpoint| match &endpoint.target {
            Target::Name { host, .. } => Some(host.clone()),
            Target::Address(_) => None,
        })
    };
    let name = tls.server_name.clone().or_else(of_certificate).or_else(of_endpoint);
    let name = name.ok_or_else(|| {
        let text = "the certificate names no cluster and the endpoints are addresses: set the name \
                    that the members' certificates contain, such as shop.prod.svc";
        BuildError::ServerName(text.into())
    })?;
    let invalid = |_| BuildError::ServerName(format!("{name:?} is not a DNS name"));
    ServerName::try_from(name.clone()).map_err(invalid)
}

/// Encrypts the connections of another network.
struct Encrypted {
    network: Arc<dyn Network>,
    tls: ClientTls,
    server_name: ServerName<'static>,
    /// False if the program keeps the certificates up to date.
    reads_files: bool,
}

impl Encrypted {
    async fn open(&self, address: &str) -> io::Result<Connection> {
        let certificates = self.tls.certificates();
        if self.reads_files
            && let Poll::Refused(error) = certificates.poll_if_older(POLL_AGE)
        {
            let error = describe(&error);
            tracing::warn!(error, "new certificates refused, the earlier ones stay in use");
        }
        let stream = self.network.connect(address).await?;
        let connector = TlsConnector::from(self.tls.config());
        let handshake = connector.connect(self.server_name.clone(), stream);
        match timeout(HANDSHAKE_LIMIT, handshake).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(explain(error)),
            Err(_) => {
                let text = format!("no TLS handshake within {} ms", HANDSHAKE_LIMIT.as_millis());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

impl Network for Encrypted {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(self.open(address))
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.network.resolve(host, port)
    }

    fn is_encrypted(&self) -> bool {
        true
    }
}

fn describe(error: &larder_tls::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
