//! Metrics of certificates and handshakes. Registered by a node that has certificates.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, gauge, opts, register};

/// The area's metrics. Clones share them.
#[derive(Clone)]
pub struct TlsMetrics {
    /// When the node's certificate expires, as a Unix time.
    pub not_after_seconds: IntGauge,
    /// When the last authority that the node trusts expires, as a Unix time.
    pub authority_not_after_seconds: IntGauge,
    /// Times that new certificates were taken over.
    pub reloads: IntCounter,
    /// Times that new files could not be used.
    pub reload_errors: IntCounter,
    /// 1 while the files differ from the certificates in use and cannot be used.
    pub files_refused: IntGauge,
    /// Handshakes with other members that failed, as the calling member.
    pub peer_errors: IntCounter,
    refused: IntCounterVec,
}

/// Metrics of one port.
#[derive(Clone)]
pub struct PortTlsMetrics {
    refused: [IntCounter; HandshakeRefusal::VALUES.len()],
}

/// Why a client's connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// The client does not use TLS.
    PlainText,
    /// The client did not finish in time.
    Timeout,
    /// The client has no certificate.
    NoCertificate,
    /// The certificate has expired, or no authority signed it.
    Certificate,
    /// The certificate is valid, and its identity is not served on this port.
    Identity,
    /// The client refused the node's certificate.
    ByClient,
    /// Anything else, such as a connection that broke.
    Protocol,
}

impl HandshakeRefusal {
    const VALUES: [Self; 7] = [
        Self::PlainText,
        Self::Timeout,
        Self::NoCertificate,
        Self::Certificate,
        Self::Identity,
        Self::ByClient,
        Self::Protocol,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::PlainText => "plain_text",
            Self::Timeout => "timeout",
            Self::NoCertificate => "no_certificate",
            Self::Certificate => "certificate",
            Self::Identity => "identity",
            Self::ByClient => "by_client",
            Self::Protocol => "protocol",
        }
    }
}

impl TlsMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| gauge(registry, name, help);
        let counter = |name, help| counter(registry, name, help);
        let refused = IntCounterVec::new(
            opts("tls_handshakes_refused_total", "Connections refused in the handshake."),
            &["port", "reason"],
        );
        Self {
            not_after_seconds: gauge(
                "tls_certificate_not_after_seconds",
                "When the node's certificate expires, as a Unix time.",
            ),
            authority_not_after_seconds: gauge(
                "tls_authority_not_after_seconds",
                "When the last authority that the node trusts expires, as a Unix time.",
            ),
            reloads: counter("tls_reloads_total", "Times that new certificates were taken over."),
            reload_errors: counter(
                "tls_reload_errors_total",
                "Times that new certificate files could not be used.",
            ),
            files_refused: gauge(
                "tls_files_refused",
                "1 while the certificate files cannot be used and earlier ones stay in use.",
            ),
            peer_errors: counter(
                "tls_peer_errors_total",
                "Handshakes with other members that failed, as the calling member.",
            ),
            refused: register(registry, refused.expect("valid names")),
        }
    }

    /// The metrics of one port.
    #[must_use]
    pub fn port(&self, port: &str) -> PortTlsMetrics {
        let counter =
            |reason: HandshakeRefusal| self.refused.with_label_values(&[port, reason.label()]);
        PortTlsMetrics { refused: HandshakeRefusal::VALUES.map(counter) }
    }
}

impl PortTlsMetrics {
    /// Counts a refused connection.
    pub fn refused(&self, reason: HandshakeRefusal) {
        self.refused[reason as usize].inc();
    }
}
