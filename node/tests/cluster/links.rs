//! Links between members that a test can break, one direction at a time.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_node::peers::{CallError, Grpc, InvalidAddress, PeerConnection, Transport};
use larder_proto::v1::{FetchRequest, FetchResponse, SyncRequest, SyncResponse};
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
            real: Grpc.open(address)?,
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
            Fault::SlowSync(_) | Fault::LateSync(_) | Fault::Silent => None,
        };
        self.pass(self.real.fetch(request), delay).boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        let delay = |fault| match fault {
            Fault::SlowSync(delay) => Some(delay),
            Fault::SlowFetch(_) | Fault::LateSync(_) | Fault::Silent => None,
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
}
