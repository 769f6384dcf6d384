//! The node's certificates: opened at the start, followed while it runs, and given to ports, peers
//! and the sidecar's client.

use std::sync::Arc;
use std::time::Duration;

use larder_runtime::tls::{self, Certificates, Material, Poll, Source, Usage};
use prometheus::Registry;
use rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;

use crate::config::{ClusterRef, Config, Mode};
use crate::metrics::TlsMetrics;
use crate::peers::{Grpc, PeerTls};
use crate::serve::{Acceptor, PortKind};

/// How often the files are read again. Kubernetes itself takes up to a minute to change them.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Certificates and what uses them.
pub(super) struct NodeTls {
    certificates: Arc<Certificates>,
    server_name: ServerName<'static>,
    cluster: ClusterRef,
    metrics: TlsMetrics,
}

impl NodeTls {
    /// Reads the certificates. `None` if the configuration has none.
    ///
    /// # Errors
    /// They cannot be used.
    pub(super) fn open(config: &Config, registry: &Registry) -> Result<Option<Self>, tls::Error> {
        let Some(settings) = &config.tls else { return Ok(None) };
        let usage = match config.mode {
            Mode::Member(_) => Usage::Server,
            Mode::Sidecar(_) => Usage::Client,
        };
        let source = Source::Directory(settings.directory.clone());
        let certificates = Arc::new(Certificates::open(source, usage)?);
        let metrics = TlsMetrics::register(registry);
        show_expiry(&metrics, &certificates.current());
        let (server_name, cluster) = (settings.server_name.clone(), config.cluster.clone());
        Ok(Some(Self { certificates, server_name, cluster, metrics }))
    }

    /// How a sidecar calls the members.
    pub(super) fn client(&self) -> larder_client::Tls {
        let name = self.server_name.to_str();
        larder_client::Tls::certificates(self.certificates.clone()).server_name(name)
    }

    /// What a port accepts connections with; shared by its threads.
    pub(super) fn acceptor(&self, port: PortKind) -> Arc<Acceptor> {
        let metrics = self.metrics.port(port.name());
        Arc::new(Acceptor::new(port, self.certificates.clone(), &self.cluster, metrics))
    }

    /// How other members are called.
    pub(super) fn transport(&self) -> Grpc {
        let (certificates, name) = (self.certificates.clone(), self.server_name.clone());
        let errors = self.metrics.peer_errors.clone();
        Grpc::with_tls(PeerTls::new(certificates, name, &self.cluster, errors))
    }

    /// Reads the files every `interval` until the node stops.
    pub(super) async fn follow(self: Arc<Self>, interval: Duration, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(interval) => self.poll(),
            }
        }
    }

    fn poll(&self) {
        match self.certificates.poll() {
            Poll::Unchanged => {}
            Poll::Replaced(material) => {
                self.metrics.reloads.inc();
                show_expiry(&self.metrics, &material);
                let not_after_s = material.not_after_s();
                tracing::info!(not_after_s, "certificates replaced");
            }
            Poll::Refused(error) => {
                self.metrics.reload_errors.inc();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "new certificates refused, the earlier ones stay in use");
            }
        }
        self.metrics.files_refused.set(self.certificates.is_refused().into());
    }
}

fn show_expiry(metrics: &TlsMetrics, material: &Material) {
    metrics.not_after_seconds.set(material.not_after_s().unwrap_or_default());
    metrics.authority_not_after_seconds.set(material.authority_not_after_s());
}
