//! TLS on a serving port: the handshake, its limits, and the caller's identity.
//!
//! A port that serves TLS serves nothing else. A client without a certificate of an authority, or
//! with one whose identity the port does not serve, is refused in the handshake. Start at
//! [`Acceptor::accept`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder_proto::identity::{Identity, Role};
use larder_runtime::throttle::Throttle;
use larder_runtime::tls::{self, Certificates, NameCheck, ServerTls};
use rustls::CertificateError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::CallerIdentity;
use super::stream::ServerStream;
use crate::config::ClusterRef;
use crate::metrics::{HandshakeRefusal, PortTlsMetrics};

/// A client that has not finished its handshake by then is disconnected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes of one port at the same time, each about 40 KiB. Others wait, within their time.
const MAX_HANDSHAKES: usize = 256;
/// Time for a refused client to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// Refused handshakes are logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The type of the record with which a TLS client begins. Source: RFC 8446, section 5.1.
const HANDSHAKE_RECORD: u8 = 22;
/// The fatal alert `unexpected_message` as a TLS record. Source: RFC 8446, section 6.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 10];
/// How an HTTP/2 client begins. Source: RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Of a client that is refused, this much more is read.
const MAX_REFUSED_BYTES: u64 = 16 * 1024;
/// The answer to HTTP/1.1 in plain text.
const HTTP_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nThis port expects TLS: use https:// and a client certificate.\n";

/// What a port serves, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// gRPC for applications.
    Grpc,
    /// gRPC for other members only.
    Peer,
    /// HTTP/1.1 and HTTP/2 for applications.
    Http,
}

/// Turns accepted connections of one port into TLS connections.
pub(crate) struct Acceptor {
    kind: PortKind,
    tls: ServerTls,
    handshakes: Semaphore,
    metrics: PortTlsMetrics,
    log: Throttle,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the client does not use TLS")]
    PlainText,
    #[error("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    #[error(transparent)]
    Handshake(io::Error),
}

impl PortKind {
    /// The label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Peer => "peer",
            Self::Http => "http",
        }
    }

    fn alpn(self) -> &'static [&'static str] {
        match self {
            Self::Grpc | Self::Peer => &["h2"],
            Self::Http => &["h2", "http/1.1"],
        }
    }

    /// True if the port serves a process whose certificate has this identity, or none.
    fn serves(self, identity: Option<&Identity>, cluster: &ClusterRef) -> bool {
        let is_of_cluster = identity.map(|i| i.is_of(&cluster.namespace, &cluster.name));
        let is_member = identity.is_some_and(|identity| identity.role == Role::Member);
        match self {
            Self::Peer => is_of_cluster == Some(true) && is_member,
            Self::Grpc | Self::Http => is_of_cluster != Some(false),
        }
    }
}

impl Acceptor {
    pub(crate) fn new(
        kind: PortKind,
        certificates: Arc<Certificates>,
        cluster: &ClusterRef,
        metrics: PortTlsMetrics,
    ) -> Self {
        let cluster = cluster.clone();
        let check: NameCheck = Arc::new(move |names| {
            let identity = Identity::of_certificate(names);
            identity.is_ok_and(|identity| kind.serves(identity.as_ref(), &cluster))
        });
        Self {
            kind,
            tls: ServerTls::new(certificates, kind.alpn(), Some(check)),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
            metrics,
            log: Throttle::new(LOG_INTERVAL),
        }
    }

    /// The connection after its handshake, and its caller. `None` if it was refused and closed.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Option<(ServerStream, Option<CallerIdentity>)> {
        let Ok(secured) = timeout(HANDSHAKE_TIMEOUT, self.handshake(stream)).await else {
            self.report(&Refused::TimedOut);
            return None;
        };
        let stream = secured?;
        let caller = caller(&stream);
        Some((ServerStream::Tls(Box::new(stream)), caller))
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        // Before the permit, so that connections without a byte do not delay handshakes. One that
        // ends without a byte was a probe of the port.
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first[0] != HANDSHAKE_RECORD {
            self.report(&Refused::PlainText);
            // The client may be gone: then it needs no answer.
            _ = timeout(REFUSAL_TIMEOUT, self.refuse_plain_text(stream)).await;
            return None;
        }
        let permit = self.handshakes.acquire().await.expect("never closed");
        let accepting = TlsAcceptor::from(self.tls.config()).accept(stream).into_fallible();
        match accepting.await {
            Ok(stream) => Some(stream),
            Err((error, stream)) => {
                drop(permit);
                self.report(&Refused::Handshake(error));
                _ = timeout(REFUSAL_TIMEOUT, drain(stream)).await;
                None
            }
        }
    }

    /// Answers in a form that the client shows: HTTP/1.1 if that is what it speaks.
    async fn refuse_plain_text(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut request = [0; HTTP2_PREFACE.len()];
        let read = stream.read(&mut request).await?;
        let is_http2 = request[..read] == *HTTP2_PREFACE;
        let answer = if self.kind == PortKind::Http && !is_http2 { HTTP_REFUSAL } else { ALERT };
        stream.write_all(answer).await?;
        drain(stream).await
    }

    fn report(&self, refused: &Refused) {
        self.metrics.refused(refused.reason());
        if let Some(left_out) = self.log.admit() {
            let port = self.kind.name();
            tracing::warn!(port, error = %refused, left_out, "connection refused");
        }
    }
}

impl Refused {
    fn reason(&self) -> HandshakeRefusal {
        let error = match self {
            Self::TimedOut => return HandshakeRefusal::Timeout,
            Self::PlainText => return HandshakeRefusal::PlainText,
            Self::Handshake(error) => error,
        };
        let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match error {
            Some(rustls::Error::NoCertificatesPresented) => HandshakeRefusal::NoCertificate,
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )) => HandshakeRefusal::Identity,
            Some(rustls::Error::InvalidCertificate(_)) => HandshakeRefusal::Certificate,
            Some(rustls::Error::AlertReceived(_)) => HandshakeRefusal::ByClient,
            _ => HandshakeRefusal::Protocol,
        }
    }
}

/// Completes the handshake, if the port serves TLS. `None` if the connection is refused.
pub(super) async fn secure(
    acceptor: Option<&Acceptor>,
    stream: TcpStream,
) -> Option<(ServerStream, Option<CallerIdentity>)> {
    match acceptor {
        None => Some((ServerStream::Plain(stream), None)),
        // A handshake's state is large, and most of a connection's life comes after it.
        Some(acceptor) => Box::pin(acceptor.accept(stream)).await,
    }
}

/// Reads what the client has sent already: bytes that are left unread would reset the connection
/// before the client reads why it was refused.
async fn drain(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_REFUSED_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The identity in the client's certificate, which was verified in the handshake.
fn caller(stream: &TlsStream<TcpStream>) -> Option<CallerIdentity> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let identity = Identity::of_certificate(&tls::uri_names(certificate));
    identity.ok().flatten().map(|identity| CallerIdentity(Arc::new(identity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_the_cluster_are_served_on_the_peer_port() {
        let cluster = ClusterRef { namespace: "prod".into(), name: "shop".into() };
        let serves = |kind: PortKind, uri: &str| {
            let identity = (!uri.is_empty()).then(|| uri.parse().expect("an identity"));
            kind.serves(identity.as_ref(), &cluster)
        };
        for (uri, peers, applications) in [
            ("larder://prod/shop/member", true, true),
            ("larder://prod/shop/operator", false, true),
            ("larder://prod/shop/client/checkout", false, true),
            ("", false, true),
            ("larder://prod/other/member", false, false),
            ("larder://test/shop/client/checkout", false, false),
        ] {
            assert_eq!(serves(PortKind::Peer, uri), peers, "{uri}");
            assert_eq!(serves(PortKind::Grpc, uri), applications, "{uri}");
            assert_eq!(serves(PortKind::Http, uri), applications, "{uri}");
        }
    }
}
