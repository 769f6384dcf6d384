//! Links between members that a test can break, one direction at a time.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_node::peers::{CallError, Grpc, InvalidAddress, PeerConnection, Transport};
use larder_proto::v1::{
    FetchRequest, FetchResponse, StoredEntry, SyncRequest, SyncResponse, TakeOverCursor,
    TakeOverRequest, TakeOverResponse,
};
use parking_lot::Mutex;
use tokio::time::sleep;

/// What happens to the calls of one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No call is answered.
    Silent,
    /// Responses with values arrive this much later.
    SlowFetch(Duration),
    /// Responses of syncs arrive this much later.
    SlowSync(Duration),
    /// Requests of syncs arrive this much later.
    LateSync(Duration),
    /// Responses with entries to take over arrive this much later.
    SlowTakeOver(Duration),
    /// Responses with entries to take over are not those of the called member.
    Lie(Lie),
}

/// What a member that lies puts into its responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Keys of any member, with a wrong value, and keys that nobody can have.
    Keys,
    /// A list that never ends.
    Endless,
    /// More than fits into one message.
    TooMuch,
}

/// The faults of every link, by the calling member and the called address.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<HashMap<(String, String), Fault>>>);

struct FaultyTransport {
    links: Links,
    from: String,
}

struct FaultyConnection {
    real: Arc<dyn PeerConnection>,
    links: Links,
    link: (String, String),
}

impl Links {
    pub(super) fn set(&self, from: &str, to: SocketAddr, fault: Option<Fault>) {
        let link = (from.to_owned(), to.to_string());
        match fault {
            Some(fault) => _ = self.0.lock().insert(link, fault),
            None => _ = self.0.lock().remove(&link),
        }
    }

    /// gRPC with the faults of the links that start at member `from`.
    pub(crate) fn transport(&self, from: &str) -> Arc<dyn Transport> {
        Arc::new(FaultyTransport { links: self.clone(), from: from.to_owned() })
    }
}

impl Transport for FaultyTransport {
    fn open(&self, address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        Ok(Arc::new(FaultyConnection {
            real: Grpc::default().open(address)?,
            links: self.links.clone(),
            link: (self.from.clone(), address.to_owned()),
        }))
    }
}

impl FaultyConnection {
    fn fault(&self) -> Option<Fault> {
        self.links.0.lock().get(&self.link).copied()
    }

    async fn pass<T>(
        &self,
        call: BoxFuture<'_, Result<T, CallError>>,
        delay: impl Fn(Fault) -> Option<Duration>,
    ) -> Result<T, CallError> {
        if self.fault() == Some(Fault::Silent) {
            pending::<()>().await;
        }
        let response = call.await;
        match self.fault() {
            Some(Fault::Silent) => pending::<()>().await,
            Some(fault) => sleep(delay(fault).unwrap_or_default()).await,
            None => {}
        }
        response
    }
}

impl PeerConnection for FaultyConnection {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>> {
        let delay = |fault| match fault {
            Fault::SlowFetch(delay) => Some(delay),
            _ => None,
        };
        self.pass(self.real.fetch(request), delay).boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        let delay = |fault| match fault {
            Fault::SlowSync(delay) => Some(delay),
            _ => None,
        };
        let late = match self.fault() {
            Some(Fault::LateSync(delay)) => delay,
            _ => Duration::ZERO,
        };
        let call = async move {
            sleep(late).await;
            self.real.sync(request).await
        };
        self.pass(call.boxed(), delay).boxed()
    }

    fn take_over(
        &self,
        request: TakeOverRequest,
    ) -> BoxFuture<'_, Result<TakeOverResponse, CallError>> {
        let delay = |fault| match fault {
            Fault::SlowTakeOver(delay) => Some(delay),
            _ => None,
        };
        async move {
            let response = self.pass(self.real.take_over(request.clone()), delay).await?;
            Ok(match self.fault() {
                Some(Fault::Lie(lie)) => lie.told(&request, response),
                _ => response,
            })
        }
        .boxed()
    }
}

impl Lie {
    fn told(self, request: &TakeOverRequest, mut honest: TakeOverResponse) -> TakeOverResponse {
        let entry = |key: String, len: usize| StoredEntry {
            key: key.into(),
            value: vec![b'x'; len].into(),
            fresh_ms: 60_000,
            keep_ms: 60_000,
            version: u64::MAX / 2,
            ..StoredEntry::default()
        };
        let cursor = request.cursor.unwrap_or_default();
        let next = TakeOverCursor { list: 1, next: cursor.next + 1 };
        for group in &mut honest.groups {
            group.entries = match self {
                Self::Keys => {
                    let keys = (0..50).map(|n| format!("other{n}"));
                    let impossible = [String::new(), "k".repeat(10_000)];
                    keys.chain(impossible).map(|key| entry(key, 10)).collect()
                }
                Self::Endless => Vec::new(),
                Self::TooMuch => (0..100).map(|n| entry(format!("k{n}"), 1 << 20)).collect(),
            };
        }
        honest.next = (self == Self::Endless).then_some(next);
        honest
    }
}
