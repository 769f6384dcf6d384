//! Certificates of a cluster under test, and clients that use them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use larder_client::{Client, Retry, Tls};
use larder_proto::config::TlsConfig;
use larder_tls::testing::{Authority, Leaf, mount};
use larder_tls::{Certificates, ClientTls, Pem, Source, Usage};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// The name in every member's certificate.
pub(super) const SERVER_NAME: &str = "shop.prod.svc";
/// What a member's certificate says.
pub(super) const MEMBER: Leaf<'_> = Leaf {
    names: &[SERVER_NAME, "localhost", "127.0.0.1"],
    uris: &["larder://prod/shop/member"],
    expired: false,
    client_only: false,
};
/// What an application's certificate says.
pub(super) const APPLICATION: Leaf<'_> = Leaf {
    names: &[],
    uris: &["larder://prod/shop/client/checkout"],
    expired: false,
    client_only: true,
};

/// The authority of a cluster and the mounted Secret of each member.
pub(crate) struct ClusterTls {
    pub(super) authority: Authority,
    folder: tempfile::TempDir,
}

impl ClusterTls {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { authority: Authority::new("shop"), folder }
    }

    /// The section of a member's file. Mounts certificates, unless there are some.
    pub(super) fn config(&self, member: &str) -> TlsConfig {
        let directory = self.directory(member);
        if !directory.exists() {
            self.mount(member, &self.authority.pem_of(&MEMBER));
        }
        TlsConfig {
            directory: directory.to_str().expect("UTF-8").to_owned(),
            server_name: SERVER_NAME.into(),
        }
    }

    /// Replaces a member's certificates.
    pub(super) fn mount(&self, member: &str, pem: &Pem) {
        let directory = self.directory(member);
        std::fs::create_dir_all(&directory).expect("a folder");
        mount(&directory, pem);
    }

    fn directory(&self, member: &str) -> PathBuf {
        self.folder.path().join(member)
    }

    /// A stock client: tonic's own TLS.
    pub(super) fn channel_to(&self, address: SocketAddr) -> Channel {
        let pem = self.authority.pem_of(&APPLICATION);
        let pair = pem.identity.expect("a pair");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem.ca))
            .identity(Identity::from_pem(pair.certificate, pair.key))
            .domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("a URL");
        endpoint.tls_config(tls).expect("valid").connect_lazy()
    }
}

/// A client that asks one address once, with these certificates or in plain text.
pub(super) fn client(address: SocketAddr, pem: Option<&Pem>) -> Client {
    let builder = Client::builder()
        .members([address.to_string()])
        .follow_ring(false)
        .timeout(Duration::from_secs(5))
        .retry(Retry::never());
    let builder = match pem {
        Some(pem) => builder.tls(tls(pem)),
        None => builder,
    };
    builder.build().expect("valid")
}

pub(super) fn tls(pem: &Pem) -> Tls {
    let pair = pem.identity.clone().map(|pair| (pair.certificate, pair.key));
    Tls::pem(pem.ca.clone(), pair).server_name(SERVER_NAME)
}

/// One GET over TLS and HTTP/1.1: status and body.
pub(super) async fn https_get(address: SocketAddr, path: &str, pem: &Pem) -> (u16, String) {
    let certificates = Certificates::open(Source::Pem(pem.clone()), Usage::Client);
    let tls = ClientTls::new(certificates.expect("valid").into(), &["http/1.1"], None);
    let stream = tokio::net::TcpStream::connect(address).await.expect("listening");
    let name = SERVER_NAME.try_into().expect("a DNS name");
    let stream = TlsConnector::from(tls.config()).connect(name, stream).await.expect("TLS");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", SERVER_NAME);
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}
