//! A cluster over TLS: which clients are served or refused, and certificates that change under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use larder_client::{Answer, Client};
use larder_node::app::{App, Options};
use larder_node::config::{Config, TlsSettings};
use larder_tls::testing::{Authority, Leaf, NOT_AFTER_S};
use larder_tls::{Identity, Pem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{CAPACITY_BYTES, Cluster, eventually, get, http_get_of};
use super::tls_rig::{APPLICATION, ClusterTls, MEMBER, SERVER_NAME, client, https_get, tls};

const GROUP: &str = "students";
const LIMIT: Duration = Duration::from_secs(10);

fn cluster_tls(cluster: &Cluster) -> &ClusterTls {
    cluster.tls.as_ref().expect("over TLS")
}

/// Why a client's read of any key fails.
async fn refusal(address: SocketAddr, pem: Option<&Pem>) -> String {
    let error = client(address, pem).get(GROUP, "Tom").await.expect_err("refused");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

/// Waits until the first member has refused `count` connections for this reason. A client may
/// retry, so there may be more.
async fn refused(cluster: &Cluster, port: &str, reason: &str, count: f64) {
    let series =
        format!("larder_tls_handshakes_refused_total{{port=\"{port}\",reason=\"{reason}\"}}");
    let is_counted = || async { cluster.metric(0, &series).await >= Some(count) };
    cluster.eventually(LIMIT, is_counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_tls_answers_stock_clients_the_gateway_and_a_sidecar() {
    let cluster = Cluster::start_with_tls(3).await;
    // Each member owns some of the keys and forwards the others, so peers talk over TLS as well.
    for number in 0..12 {
        let key = format!("key{number}");
        let answers = (0..3).map(|member| get(cluster.client(member), GROUP, &key));
        for answer in join_all(answers).await {
            assert_eq!(answer.expect("an answer").value, format!("{key} 1"));
        }
        assert_eq!(cluster.origin.loads_of(&key), 1, "{key}");
    }
    for member in 0..3 {
        assert_eq!(cluster.metric(member, "larder_tls_peer_errors_total").await, Some(0.0));
        let expiry = cluster.metric(member, "larder_tls_certificate_not_after_seconds").await;
        assert_eq!(expiry, Some(NOT_AFTER_S as f64));
    }
    let pem = cluster_tls(&cluster).authority.pem_of(&APPLICATION);
    let http = cluster.addresses(1).http.expect("a member");
    let (status, body) = https_get(http, "/api?group=students&key=key0", &pem).await;
    assert!(status == 200 && body.contains("\"key0 1\""), "{status} {body}");

    let sidecar = cluster.start_sidecar().await;
    let answer = client(sidecar.addresses().grpc, None).get(GROUP, "key0").await;
    assert!(matches!(answer, Ok(Answer::Found { .. })), "its own port is plain: {answer:?}");
    sidecar.drain().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_valid_certificate_are_refused_and_counted_and_see_the_reason() {
    let cluster = Cluster::start_with_tls(1).await;
    let (authority, stranger) = (&cluster_tls(&cluster).authority, Authority::new("stranger"));
    let grpc = cluster.addresses(0).grpc;
    let signed_by = |signer: &Authority, leaf: &Leaf<'_>| Pem {
        ca: authority.pem().into(),
        identity: Some(signer.issue(leaf)),
    };
    let anonymous = Pem { ca: authority.pem().into(), identity: None };
    let text = refusal(grpc, Some(&anonymous)).await;
    assert!(text.contains("the server requires a client certificate"), "{text}");
    refused(&cluster, "grpc", "no_certificate", 1.0).await;

    let text = refusal(grpc, Some(&stranger.pem_of(&APPLICATION))).await;
    assert!(text.contains("no authority that the client trusts signed the server's"), "{text}");
    refused(&cluster, "grpc", "by_client", 1.0).await;

    let other = Leaf { uris: &["larder://prod/other/client/checkout"], ..APPLICATION };
    let text = refusal(grpc, Some(&signed_by(authority, &other))).await;
    assert!(text.contains("does not serve the identity"), "{text}");
    refused(&cluster, "grpc", "identity", 1.0).await;

    let text = refusal(grpc, None).await;
    assert!(text.contains("it expects TLS: use https://"), "{text}");
    refused(&cluster, "grpc", "plain_text", 1.0).await;

    let wrong_name = client_with_name(grpc, &authority.pem_of(&APPLICATION), "other.prod.svc");
    let error = wrong_name.get(GROUP, "Tom").await.expect_err("another server").to_string();
    assert!(!error.is_empty());
    refused(&cluster, "grpc", "by_client", 2.0).await;

    let answer = client(grpc, Some(&authority.pem_of(&APPLICATION))).get(GROUP, "Tom").await;
    assert!(matches!(answer, Ok(Answer::Found { .. })), "{answer:?}");
    cluster.stop().await;
}

fn client_with_name(address: SocketAddr, pem: &Pem, name: &str) -> Client {
    let builder = Client::builder().members([address.to_string()]).follow_ring(false);
    let builder = builder.timeout(Duration::from_millis(500)).tls(tls(pem).server_name(name));
    builder.build().expect("valid")
}

/// Certificates that a client program would not load itself, sent by tonic's client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_and_one_of_a_stranger_are_refused_by_the_member() {
    let cluster = Cluster::start_with_tls(1).await;
    let authority = &cluster_tls(&cluster).authority;
    let expired = authority.issue(&Leaf { expired: true, ..APPLICATION });
    let strange = Authority::new("stranger").issue(&APPLICATION);
    for (identity, count) in [(expired, 1.0), (strange, 2.0)] {
        assert!(!is_served(&cluster, cluster.addresses(0).grpc, identity).await);
        refused(&cluster, "grpc", "certificate", count).await;
    }
    cluster.stop().await;
}

/// Whether a stock client with this certificate gets any answer on a port.
async fn is_served(cluster: &Cluster, address: SocketAddr, identity: Identity) -> bool {
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity as ClientIdentity};
    let authority = cluster_tls(cluster).authority.pem();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .identity(ClientIdentity::from_pem(identity.certificate, identity.key))
        .domain_name(SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("a URL");
    let channel = endpoint.tls_config(tls).expect("valid").connect_lazy();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_port_serves_members_of_the_cluster_only() {
    let cluster = Cluster::start_with_tls(1).await;
    let (authority, peer) = (&cluster_tls(&cluster).authority, cluster.peer_address(0));
    let mut count = 0.0;
    for uris in
        [APPLICATION.uris, &["larder://prod/shop/operator"], &["larder://prod/other/member"], &[]]
    {
        let identity = authority.issue(&Leaf { uris, ..MEMBER });
        assert!(!is_served(&cluster, peer, identity).await, "{uris:?}");
        count += 1.0;
        refused(&cluster, "peer", "identity", count).await;
    }
    assert!(is_served(&cluster, peer, authority.issue(&MEMBER)).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_authority_or_cluster_is_not_called_and_reads_go_on() {
    let mut cluster = Cluster::start_with_tls(2).await;
    let tls = cluster_tls(&cluster);
    tls.mount("shop-2", &Authority::new("stranger").pem_of(&MEMBER));
    let other_cluster = Leaf { uris: &["larder://prod/other/member"], ..MEMBER };
    tls.mount("shop-3", &tls.authority.pem_of(&other_cluster));
    for name in ["shop-2", "shop-3"] {
        cluster.add(name, CAPACITY_BYTES);
    }
    let is_whole = || async { cluster.ring_of(0).await.len() == 4 };
    cluster.eventually(LIMIT, is_whole).await;
    for number in 0..20 {
        let key = format!("key{number}");
        let answer = get(cluster.client(number % 2), GROUP, &key).await;
        assert!(answer.expect("an answer").value.starts_with(key.as_bytes()));
    }
    let is_counted = || async {
        let errors = cluster.metric(0, "larder_tls_peer_errors_total").await;
        // The stranger and the other cluster's member, as called by the first member.
        errors.is_some_and(|errors| errors >= 2.0)
    };
    cluster.eventually(LIMIT, is_counted).await;
    let series = "larder_tls_handshakes_refused_total{port=\"peer\",reason=\"identity\"}";
    let is_refused = || async { cluster.metric(0, series).await >= Some(1.0) };
    cluster.eventually(LIMIT, is_refused).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_on_a_tls_port_is_answered_with_what_to_do_and_closed() {
    let cluster = Cluster::start_with_tls(1).await;
    let http = cluster.addresses(0).http.expect("a member");
    let mut stream = tokio::net::TcpStream::connect(http).await.expect("listening");
    stream.write_all(b"GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .expect("closed")
        .expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("use https://"), "{answer}");
    refused(&cluster, "http", "plain_text", 1.0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_loopback_refuses_a_host_that_is_not_this_machine() {
    let cluster = Cluster::start(1).await;
    let (http, path) =
        (cluster.addresses(0).http.expect("a member"), "/api?group=students&key=Tom");
    let (status, body) = http_get_of(http, "attacker.example", path).await;
    assert_eq!(status, 403, "{}", String::from_utf8_lossy(&body));
    assert_eq!(cluster.origin.loads_of("Tom"), 0);
    let (status, _) = http_get_of(http, &http.to_string(), path).await;
    assert_eq!(status, 200);
    cluster.stop().await;
}

/// Reads and counts until it is stopped. Each reader opens new connections all the time.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Readers {
    /// One reader per member with a connection that stays, and one that reconnects.
    fn start(cluster: &Cluster, pem: &Pem) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for (member, reconnects) in [(0, false), (1, false), (2, false), (0, true), (1, true)] {
            let (address, pem) = (cluster.addresses(member).grpc, pem.clone());
            let (stop, reads) = (stop.clone(), reads.clone());
            tasks.push(tokio::spawn(async move {
                let (mut reader, mut failures) = (client(address, Some(&pem)), Vec::new());
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    if reconnects {
                        reader = client(address, Some(&pem));
                    }
                    number += 1;
                    let key = format!("key{}", number % 50);
                    if let Err(error) = reader.get(GROUP, key).await {
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        failures.push(format!("{error}: {source:?}"));
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                failures
            }));
        }
        Self { stop, reads, tasks }
    }

    /// Waits until more reads were made under what is in force now.
    async fn go_on(&self) {
        let target = self.reads.load(Ordering::Relaxed) + 50;
        eventually(LIMIT, || async { self.reads.load(Ordering::Relaxed) >= target }).await;
    }

    /// Reads made, and why some failed.
    async fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = join_all(self.tasks).await.into_iter().flat_map(|task| task.expect("ran"));
        (self.reads.load(Ordering::Relaxed), failures.collect())
    }
}

/// Gives every member a pair of `signer`, and waits until all use it.
async fn rotate(cluster: &Cluster, ca: &str, signer: &Authority) {
    let mut before = Vec::new();
    for member in 0..3 {
        before.push(cluster.metric(member, "larder_tls_reloads_total").await.expect("counted"));
        let pem = Pem { ca: ca.into(), identity: Some(signer.issue(&MEMBER)) };
        cluster_tls(cluster).mount(&format!("shop-{member}"), &pem);
    }
    for (member, before) in before.into_iter().enumerate() {
        let is_replaced = || async {
            cluster.metric(member, "larder_tls_reloads_total").await == Some(before + 1.0)
        };
        cluster.eventually(LIMIT, is_replaced).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_through_ten_rotations_a_torn_pair_and_a_change_of_the_authority() {
    let cluster = Cluster::start_with_tls(3).await;
    let (old, new) = (&cluster_tls(&cluster).authority, Authority::new("next"));
    let both = [old.pem(), new.pem()].concat();
    // The application's bundle is rolled over first, as an operator does it.
    let pem = Pem { ca: both.clone().into(), identity: Some(old.issue(&APPLICATION)) };
    let readers = Readers::start(&cluster, &pem);
    for _ in 0..10 {
        rotate(&cluster, old.pem(), old).await;
        readers.go_on().await;
    }

    let mut torn = old.pem_of(&MEMBER);
    torn.identity.as_mut().expect("a pair").key = old.issue(&MEMBER).key;
    cluster_tls(&cluster).mount("shop-1", &torn);
    let is_refused = || async { cluster.metric(1, "larder_tls_files_refused").await == Some(1.0) };
    cluster.eventually(LIMIT, is_refused).await;
    assert_eq!(cluster.metric(1, "larder_tls_reload_errors_total").await, Some(1.0));
    readers.go_on().await;

    // Every member trusts both authorities before any has a certificate of the new one, and none
    // has one of the old authority when that is removed.
    rotate(&cluster, &both, old).await;
    readers.go_on().await;
    rotate(&cluster, &both, &new).await;
    readers.go_on().await;
    assert_eq!(cluster.metric(1, "larder_tls_files_refused").await, Some(0.0));
    let (reads, failures) = readers.finish().await;
    assert_eq!(failures, Vec::<String>::new(), "of {reads} reads");
    assert!(reads >= 600, "{reads}");

    let of_old = pem;
    let of_new = Pem { ca: both.into(), identity: Some(new.issue(&APPLICATION)) };
    rotate(&cluster, new.pem(), &new).await;
    let address = cluster.addresses(0).grpc;
    let text = refusal(address, Some(&of_old)).await;
    assert!(text.contains("does not trust the authority of the client's certificate"), "{text}");
    client(address, Some(&of_new)).get(GROUP, "Tom").await.expect("an answer");
    cluster.stop().await;
}

#[tokio::test]
async fn a_node_does_not_start_with_an_authority_that_has_expired() {
    let tls = ClusterTls::new();
    tls.mount("shop-0", &Authority::expired("old").pem_of(&MEMBER));
    let settings = tls.config("shop-0");
    let mut config = Config::alone("shop-0", CAPACITY_BYTES);
    config.tls = Some(TlsSettings {
        directory: settings.directory.into(),
        server_name: SERVER_NAME.try_into().expect("a DNS name"),
    });
    let Err(error) = App::build(config, Options::default()) else { panic!("expired") };
    let text = format!("{error:#}");
    assert!(
        text.starts_with("tls: ") && text.contains("ca.crt: every authority has expired"),
        "{text}"
    );
}
