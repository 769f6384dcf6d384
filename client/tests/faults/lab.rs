//! Members that refuse, hang and recover, on an in-memory network under a paused clock. They speak
//! real gRPC, so the client sees what a broken member would show it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Response as HttpResponse;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use larder_client::network::{Connection, Network};
use larder_client::{BackoffPolicy, Builder, Client, Retry};
use larder_proto::v1::admin_server::{Admin, AdminServer};
use larder_proto::v1::cache_server::{Cache, CacheServer};
use larder_proto::v1::{
    CurveRequest, CurveResponse, Explanation, GetManyRequest, GetManyResponse, GetRequest,
    GetResponse, HotKeysRequest, HotKeysResponse, InvalidateRequest, InvalidateResponse, KeyResult,
    Outcome, RingMember, RingRequest, RingResponse, StatusRequest, StatusResponse,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Time in which a connection to an unassigned address fails.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Keys that begin with "large" and fit in one response. The key "huge" never fits, and a read of
/// the key "slow" never ends.
const LARGE_PER_RESPONSE: usize = 2;

/// How a member behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Serve,
    /// Accepts requests and never answers.
    Hang,
    /// Refuses connections and breaks open ones.
    Refuse,
    /// Its address is unassigned: open connections break, and new ones time out.
    Vanished,
    /// Accepts connections and never sends a byte.
    Mute,
    /// Speaks HTTP/2, and answers every request with this status and a text.
    Web(u16),
    /// Speaks HTTP/1.1 only.
    Http1,
    /// Answers UNAVAILABLE.
    Unavailable,
    /// Answers that it is overloaded, with a pushback in milliseconds.
    Overloaded(u64),
    /// Answers that the origin failed.
    OriginFails,
    /// Answers INVALID_ARGUMENT.
    BadKey,
}

#[derive(Clone, Default)]
pub(crate) struct Lab {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    members: Mutex<BTreeMap<String, Member>>,
    names: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    ring: Mutex<RingResponse>,
    /// The remaining time to live of all answers.
    remaining_ms: Mutex<u64>,
    /// What members answer for keys that begin with "hot".
    spread_ms: Mutex<u32>,
}

#[derive(Clone)]
struct Member {
    name: String,
    mode: Arc<Mutex<Mode>>,
    /// Keys of each request, in order.
    requests: Arc<Mutex<Vec<Vec<String>>>>,
    accept: UnboundedSender<io::Result<DuplexStream>>,
    /// Wires of open connections.
    wires: Arc<Mutex<Vec<AbortHandle>>>,
}

struct Service {
    lab: Lab,
    member: Member,
}

impl Lab {
    /// Members `m0`, `m1`, ... at `10.0.0.1:7600`, `10.0.0.2:7600`, ..., all serving and all in
    /// the ring of revision 1.
    pub(crate) fn with_members(count: u8) -> Self {
        let lab = Self::default();
        for i in 0..count {
            lab.add(i);
        }
        lab.set_ring(1, 0..count);
        lab
    }

    pub(crate) fn add(&self, i: u8) {
        let (accept, incoming) = unbounded_channel();
        let member = Member {
            name: format!("m{i}"),
            mode: Arc::new(Mutex::new(Mode::Serve)),
            requests: Arc::default(),
            accept,
            wires: Arc::default(),
        };
        self.inner.members.lock().insert(address(i), member.clone());
        let service = Arc::new(Service { lab: self.clone(), member });
        let server = Server::builder()
            .add_service(CacheServer::from_arc(Arc::clone(&service)))
            .add_service(AdminServer::from_arc(service));
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(incoming)));
    }

    pub(crate) fn set_ring(&self, revision: u64, members: impl IntoIterator<Item = u8>) {
        let members = members.into_iter().map(|i| RingMember {
            name: format!("m{i}"),
            grpc_address: address(i),
            weight: 1,
            ..RingMember::default()
        });
        *self.inner.ring.lock() = RingResponse {
            revision,
            members: members.collect(),
            placement_json: r#"{"rendezvous":{}}"#.into(),
        };
    }

    pub(crate) fn set_remaining_ms(&self, remaining_ms: u64) {
        *self.inner.remaining_ms.lock() = remaining_ms;
    }

    /// How long members ask to spread the reads of keys that begin with "hot".
    pub(crate) fn set_spread_ms(&self, spread_ms: u32) {
        *self.inner.spread_ms.lock() = spread_ms;
    }

    /// Gives the members of the ring these zones, in their order.
    pub(crate) fn set_zones(&self, zones: &[&str]) {
        let mut ring = self.inner.ring.lock();
        for (member, zone) in ring.members.iter_mut().zip(zones) {
            member.zone = (*zone).into();
        }
    }

    pub(crate) fn set_name(&self, host: &str, members: impl IntoIterator<Item = u8>) {
        let addresses = members.into_iter().map(|i| address(i).parse().expect("valid"));
        self.inner.names.lock().insert(host.into(), addresses.collect());
    }

    pub(crate) fn set(&self, i: u8, mode: Mode) {
        let member = self.inner.members.lock()[&address(i)].clone();
        *member.mode.lock() = mode;
        if matches!(mode, Mode::Refuse | Mode::Vanished) {
            member.wires.lock().drain(..).for_each(|wire| wire.abort());
        }
    }

    /// The keys of each read that a member received.
    pub(crate) fn received(&self, i: u8) -> Vec<Vec<String>> {
        self.inner.members.lock()[&address(i)].requests.lock().clone()
    }

    pub(crate) fn count(&self) -> u8 {
        u8::try_from(self.inner.members.lock().len()).expect("few")
    }

    /// How many reads all members received.
    pub(crate) fn requests(&self) -> usize {
        (0..self.count()).map(|i| self.received(i).len()).sum()
    }

    /// A client of all members, without jitter, so that times are exact.
    pub(crate) fn builder(&self) -> Builder {
        self.builder_for((0..self.count()).map(address))
    }

    pub(crate) fn builder_for(&self, members: impl IntoIterator<Item = String>) -> Builder {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(4));
        let backoff = BackoffPolicy::new(first, 2, longest, 0).expect("valid");
        Client::builder()
            .members(members)
            .network(Arc::new(self.clone()))
            .retry(Retry { backoff, ..Retry::default() })
    }
}

pub(crate) fn address(i: u8) -> String {
    format!("10.0.0.{}:7600", i + 1)
}

impl Network for Lab {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        let member = self.inner.members.lock()[address].clone();
        Box::pin(async move { member.connect().await })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let found = self.inner.names.lock().get(host).cloned();
            found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
        })
    }
}

impl Member {
    async fn connect(&self) -> io::Result<Connection> {
        let mode = *self.mode.lock();
        if mode == Mode::Refuse {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        }
        if mode == Mode::Vanished {
            tokio::time::sleep(CONNECT_LIMIT).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (near, mut wire_near) = duplex(64 * 1024);
        let (far, mut wire_far) = duplex(64 * 1024);
        let wire = tokio::spawn(async move {
            let _ = copy_bidirectional(&mut wire_near, &mut wire_far).await;
        });
        self.wires.lock().push(wire.abort_handle());
        match mode {
            Mode::Mute => drop(tokio::spawn(hold(far))),
            Mode::Http1 => drop(tokio::spawn(refuse_http2(far))),
            Mode::Web(status) => drop(tokio::spawn(serve_web(far, status))),
            _ => self.accept.send(Ok(far)).expect("the server runs"),
        }
        Ok(Box::new(near))
    }

    async fn behave(&self) -> Result<(), Status> {
        let mode = *self.mode.lock();
        match mode {
            Mode::Serve => Ok(()),
            Mode::Hang | Mode::Refuse | Mode::Vanished => std::future::pending().await,
            Mode::Mute | Mode::Http1 | Mode::Web(_) => unreachable!("it does not speak gRPC"),
            Mode::Unavailable => Err(Status::unavailable("draining")),
            Mode::OriginFails => {
                let text = "the origin of group \"students\" failed: no connection to db:5432";
                Err(with_reason(Code::Unavailable, "ORIGIN_UNREACHABLE", text))
            }
            Mode::BadKey => {
                Err(with_reason(Code::InvalidArgument, "KEY_TOO_LONG", "the key is too long"))
            }
            Mode::Overloaded(after_ms) => {
                let text = "too many requests";
                let mut status = with_reason(Code::ResourceExhausted, "MEMBER_OVERLOADED", text);
                let after = after_ms.to_string().parse().expect("ascii");
                status.metadata_mut().insert("grpc-retry-pushback-ms", after);
                Err(status)
            }
        }
    }
}

fn with_reason(code: Code, reason: &str, text: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "larder.dev", HashMap::new());
    Status::with_error_details(code, text, details)
}

fn response_full() -> KeyResult {
    KeyResult {
        outcome: Outcome::Error.into(),
        code: Code::ResourceExhausted.into(),
        reason: "RESPONSE_FULL".into(),
        ..KeyResult::default()
    }
}

async fn hold(connection: DuplexStream) {
    std::future::pending::<()>().await;
    drop(connection);
}

/// What a web server without HTTP/2 does on a client's preface.
async fn refuse_http2(mut connection: DuplexStream) {
    let _ = connection.read(&mut [0; 1024]).await;
    let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let _ = connection.read_to_end(&mut Vec::new()).await;
}

async fn serve_web(connection: DuplexStream, status: u16) {
    let answer = move |_: http::Request<_>| {
        let response = HttpResponse::builder().status(status).header("content-type", "text/plain");
        std::future::ready(response.body("a web page".to_owned()))
    };
    let service = TowerToHyperService::new(tower::service_fn(answer));
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(connection), service).await;
}

impl Service {
    fn record(&self, keys: &[impl AsRef<[u8]>]) {
        let text = |k: &[u8]| String::from_utf8_lossy(k).into_owned();
        self.member.requests.lock().push(keys.iter().map(|k| text(k.as_ref())).collect());
    }

    fn result(&self, key: &[u8], explain: bool) -> KeyResult {
        let explanation = explain.then(|| Explanation {
            served_by: self.member.name.clone(),
            ring_revision: self.lab.inner.ring.lock().revision,
            remaining_ms: *self.lab.inner.remaining_ms.lock(),
            ..Explanation::default()
        });
        let outcome = match key {
            b"Nobody" => Outcome::Absent,
            _ => Outcome::Found,
        };
        let value = [b"value of ", key].concat().into();
        let is_hot = key.starts_with(b"hot");
        let spread_ms = if is_hot { *self.lab.inner.spread_ms.lock() } else { 0 };
        KeyResult { outcome: outcome.into(), value, explanation, spread_ms, ..KeyResult::default() }
    }
}

#[tonic::async_trait]
impl Cache for Service {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        self.record(&[&request.key]);
        self.member.behave().await?;
        if request.key == "slow" {
            std::future::pending::<()>().await;
        }
        match (&*request.group, &request.key[..]) {
            ("students", b"Nobody") => Err(Status::not_found("absent")),
            ("students", key) => {
                let KeyResult { value, spread_ms, .. } = self.result(key, false);
                Ok(Response::new(GetResponse { value, spread_ms, ..GetResponse::default() }))
            }
            (group, _) => Err(Status::failed_precondition(format!("no group {group}"))),
        }
    }

    async fn get_many(
        &self,
        request: Request<GetManyRequest>,
    ) -> Result<Response<GetManyResponse>, Status> {
        let request = request.into_inner();
        self.record(&request.keys);
        self.member.behave().await?;
        let mut large = 0;
        let results = request.keys.iter().map(|key| {
            large += usize::from(key.starts_with(b"large"));
            if key == "huge" || (key.starts_with(b"large") && large > LARGE_PER_RESPONSE) {
                return response_full();
            }
            self.result(key, request.explain)
        });
        Ok(Response::new(GetManyResponse { results: results.collect() }))
    }

    async fn invalidate(
        &self,
        _: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        self.member.behave().await?;
        Ok(Response::new(InvalidateResponse { members_reached: 1, members_total: 1 }))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn ring(&self, _: Request<RingRequest>) -> Result<Response<RingResponse>, Status> {
        if *self.member.mode.lock() == Mode::Hang {
            self.member.behave().await?;
        }
        Ok(Response::new(self.lab.inner.ring.lock().clone()))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.member.behave().await?;
        let member = self.member.name.clone();
        Ok(Response::new(StatusResponse { member, ..StatusResponse::default() }))
    }

    async fn curve(&self, _: Request<CurveRequest>) -> Result<Response<CurveResponse>, Status> {
        Err(Status::unimplemented("no test calls it"))
    }

    async fn hot_keys(
        &self,
        _: Request<HotKeysRequest>,
    ) -> Result<Response<HotKeysResponse>, Status> {
        Err(Status::unimplemented("no test calls it"))
    }
}

/// Fails the test instead of hanging when a call never ends; longer than every wait of a test.
pub(crate) async fn within_an_hour<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), future).await.expect("the call never ended")
}
