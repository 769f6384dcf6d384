//! A member whose bulkhead is full: the errors that each kind of client gets over real sockets, and
//! how the Rust client reacts.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_client::{Client, Error};
use larder_node::app::{Addresses, App, Options, Running};
use larder_node::config::Config;
use larder_node::origin::{Loaded, from_fn};
use larder_proto::contract::{Freshness, OriginLimits};
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{GetManyRequest, GetRequest};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Loads that a bulkhead of concurrency 1 admits, running and waiting.
const PLACES: usize = 17;

/// A member whose only loader waits for permits of `gate`.
struct Member {
    running: Running,
    gate: Arc<Semaphore>,
    /// Reads that fill the bulkhead.
    reads: Vec<tokio::task::JoinHandle<Result<(), Status>>>,
}

impl Member {
    async fn full() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let opened = gate.clone();
        let loader = from_fn(move |key: Bytes| {
            let gate = opened.clone();
            async move {
                gate.acquire().await.expect("never closed").forget();
                Ok(Loaded::Value(key))
            }
        });
        let freshness = Freshness {
            ttl_ms: 60_000,
            jitter_percent: 0,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 0,
            early_refresh_percent: 0,
        };
        let limits = OriginLimits::new(1, 8_000);
        let options = Options::default().group_with("students", loader, freshness, limits);
        let app = App::build(Config::alone("alone", 1 << 20), options).expect("free ports");
        let mut member = Self { running: app.spawn().expect("threads"), gate, reads: Vec::new() };
        for number in 0..PLACES {
            let read = get(member.channel(), format!("key {number}"));
            member.reads.push(tokio::spawn(async move { read.await.map(drop) }));
        }
        let refused = || async {
            let cache = member.running.cache().expect("a member");
            cache.waiting() == PLACES
                && get(member.channel(), "one more".into())
                    .await
                    .is_err_and(|status| status.code() == Code::ResourceExhausted)
        };
        eventually(refused).await;
        member
    }

    fn addresses(&self) -> Addresses {
        self.running.addresses()
    }

    fn channel(&self) -> Channel {
        let url = format!("http://{}", self.addresses().grpc);
        Endpoint::from_shared(url).expect("a URL").connect_lazy()
    }

    fn client(&self) -> Client {
        Client::builder().members([self.addresses().grpc.to_string()]).build().expect("valid")
    }

    /// Lets every load finish, and checks that every admitted read got an answer.
    async fn finish(self) {
        self.gate.add_permits(1_000);
        for read in self.reads {
            read.await.expect("no panic").expect("an admitted read");
        }
        self.running.drain().await;
    }
}

async fn get(channel: Channel, key: String) -> Result<Bytes, Status> {
    let request = GetRequest { group: "students".into(), key: key.into(), explain: false };
    Ok(CacheClient::new(channel).get(request).await?.into_inner().value)
}

async fn eventually<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "not in time");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_refusal_for_overload_says_when_to_retry() {
    let member = Member::full().await;
    let status = get(member.channel(), "late".into()).await.expect_err("full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let trailer = status.metadata().get("grpc-retry-pushback-ms").expect("gRFC A6's trailer");
    let wait_ms: u64 = trailer.to_str().expect("text").parse().expect("milliseconds");
    assert!((20..=4_000).contains(&wait_ms), "{wait_ms}");
    let details = status.get_error_details();
    let delay = details.retry_info().expect("in the details").retry_delay;
    assert_eq!(delay.map(|delay| delay.as_millis()), Some(u128::from(wait_ms)));
    assert_eq!(details.error_info().expect("in the details").reason, "ORIGIN_BUSY");

    let (group, keys) = ("students".into(), vec!["late".into()]);
    let request = GetManyRequest { group, keys, explain: false };
    let batch = CacheClient::new(member.channel()).get_many(request).await.expect("a batch");
    let result = &batch.get_ref().results[0];
    assert_eq!((result.code, result.reason.as_str()), (8, "ORIGIN_BUSY"));
    assert!(result.retry_after_ms >= 20, "{}", result.retry_after_ms);

    let url = format!("http://{}", member.addresses().http.expect("a gateway"));
    for path in ["/api?group=students&key=late", "/_cache/students/late"] {
        let answer = http_get(&format!("{url}{path}")).await;
        assert_eq!(answer.status().as_u16(), 429, "{path}");
        let seconds =
            answer.headers().get("retry-after").expect("a header").to_str().expect("text");
        assert!((1..=4).contains(&seconds.parse::<u32>().expect("seconds")), "{seconds}");
    }
    member.finish().await;
}

#[tokio::test]
async fn the_rust_client_retries_after_the_requested_delay() {
    let member = Member::full().await;
    let client = member.client();
    let late = client.clone();
    let read = tokio::spawn(async move { late.get("students", "late").await });
    eventually(|| async { client.stats().failed_tries >= 1 }).await;
    member.gate.add_permits(1_000);
    let answer = read.await.expect("no panic").expect("an answer on a later try");
    assert_eq!(answer.value().map(|value| &value[..]), Some(&b"late"[..]));
    member.finish().await;
}

#[tokio::test]
async fn the_rust_client_does_not_wait_for_a_retry_after_its_deadline() {
    let member = Member::full().await;
    let limit = Duration::from_millis(400);
    let began = Instant::now();
    let error = member.client().with_timeout(limit).get("students", "late").await;
    let after = match error.expect_err("full") {
        Error::Overloaded(answer) => answer.retry_after.expect("a delay"),
        other => panic!("{other:?}"),
    };
    assert!(after >= limit && began.elapsed() < limit, "asked to wait {after:?}");
    member.finish().await;
}

/// One GET over HTTP/1.
async fn http_get(url: &str) -> http::Response<hyper::body::Incoming> {
    let uri: http::Uri = url.parse().expect("a URL");
    let authority = uri.authority().expect("a host").as_str();
    let stream = tokio::net::TcpStream::connect(authority).await.expect("listening");
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
    tokio::spawn(connection);
    let path = uri.path_and_query().expect("a path").as_str();
    let request = http::Request::get(path).header("host", authority);
    let request = request.body(http_body_util::Empty::<Bytes>::new()).expect("a request");
    sender.send_request(request).await.expect("an answer")
}
