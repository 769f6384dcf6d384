//! Connections to other members over TLS. Both ends prove that they are members of one cluster.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder_proto::identity::{Identity, Role};
use larder_runtime::throttle::Throttle;
use larder_runtime::tls::{Certificates, ClientTls, NameCheck};
use prometheus::IntCounter;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::ClusterRef;

/// Failed handshakes are logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Opens TLS connections to the members of one cluster. Clones share the log's limit.
#[derive(Clone)]
pub struct PeerTls(Arc<Inner>);

struct Inner {
    tls: ClientTls,
    server_name: ServerName<'static>,
    errors: IntCounter,
    log: Throttle,
}

impl PeerTls {
    /// Calls members of `cluster`, whose certificates contain `server_name`, with `certificates`.
    /// `errors` counts failed handshakes.
    #[must_use]
    pub fn new(
        certificates: Arc<Certificates>,
        server_name: ServerName<'static>,
        cluster: &ClusterRef,
        errors: IntCounter,
    ) -> Self {
        let ClusterRef { namespace, name } = cluster.clone();
        let check: NameCheck = Arc::new(move |names| {
            Identity::of_certificate(names).is_ok_and(|identity| {
                let role = |i: Identity| i.is_of(&namespace, &name) && i.role == Role::Member;
                identity.is_some_and(role)
            })
        });
        let tls = ClientTls::new(certificates, &["h2"], Some(check));
        Self(Arc::new(Inner { tls, server_name, errors, log: Throttle::new(LOG_INTERVAL) }))
    }

    /// A connection to `address` (`host:port`).
    ///
    /// # Errors
    /// Nothing listens there, or the handshake fails.
    pub(super) async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Inner { tls, server_name, errors, log } = &*self.0;
        let connected = TlsConnector::from(tls.config()).connect(server_name.clone(), stream).await;
        if let Err(error) = &connected {
            errors.inc();
            if let Some(left_out) = log.admit() {
                tracing::warn!(peer = address, %error, left_out, "handshake with peer failed");
            }
        }
        connected
    }
}
