//! The network between members, call by call: delays, losses, partitions, and processes that are
//! not there. HTTP/2 below the calls is not simulated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_node::grpc::peer::PeerService;
use larder_node::peers::{CallError, InvalidAddress, PeerConnection, Transport};
use larder_proto::v1::peer_server::Peer as _;
use larder_proto::v1::{
    FetchRequest, FetchResponse, SyncRequest, SyncResponse, TakeOverRequest, TakeOverResponse,
};
use larder_runtime::process::Process;
use larder_runtime::random::Random;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

use crate::fault::{ActiveFaults, Fault, MOST_LOSSES, RETRANSMISSION_MS, Slot};
use crate::judge::Judge;
use crate::timeline::Timeline;

/// Time in which nothing arrives before a call counts as stuck in a partition that may end, ms. TCP
/// sends again.
const RETRY_MS: u64 = 200;

/// All links and the processes at their ends.
pub(crate) struct Network {
    random: Random,
    delay_ms: (u64, u64),
    pub(crate) faults: ActiveFaults,
    processes: Mutex<BTreeMap<String, Endpoint>>,
    timeline: Arc<Timeline>,
    judge: Arc<Judge>,
}

/// What serves an address.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) slot: Slot,
    pub(crate) process: Process,
    pub(crate) service: PeerService,
}

/// A call's way in one direction.
enum Leg {
    Arrives(u64),
    Broken,
    Stuck,
}

impl Network {
    pub(crate) fn new(
        random: Random,
        delay_ms: (u64, u64),
        timeline: Arc<Timeline>,
        judge: Arc<Judge>,
    ) -> Arc<Self> {
        let (faults, processes) = (ActiveFaults::default(), Mutex::default());
        Arc::new(Self { random, delay_ms, faults, processes, timeline, judge })
    }

    pub(crate) fn serve(&self, address: &str, endpoint: Endpoint) {
        self.processes.lock().insert(address.to_owned(), endpoint);
    }

    pub(crate) fn close(&self, address: &str) {
        self.processes.lock().remove(address);
    }

    pub(crate) fn close_all(&self) {
        self.processes.lock().clear();
    }

    fn leg(&self, from: Slot, to: Slot) -> Leg {
        let faults = self.faults.lock();
        let (least, most) = self.delay_ms;
        let mut ms = least + self.random.below(most - least + 1);
        for fault in &*faults {
            match *fault {
                Fault::Delay { from: f, to: t, ms: more } if (f, t) == (from, to) => ms += more,
                Fault::Reorder { from: f, to: t, ms: more } if (f, t) == (from, to) => {
                    ms += self.random.below(more);
                }
                Fault::Loss { from: f, to: t, percent } if (f, t) == (from, to) => {
                    for nth in 0..MOST_LOSSES {
                        if self.random.below(100) >= percent {
                            break;
                        }
                        ms += RETRANSMISSION_MS << nth;
                    }
                }
                Fault::Reset { from: f, to: t } if (f, t) == (from, to) => return Leg::Broken,
                Fault::OneWay { from: f, to: t } if (f, t) == (from, to) => return Leg::Stuck,
                Fault::Partition { a, b } if (a, b) == (from, to) || (b, a) == (from, to) => {
                    return Leg::Stuck;
                }
                Fault::Isolation { member } if member == from || member == to => return Leg::Stuck,
                _ => {}
            }
        }
        Leg::Arrives(ms)
    }

    /// Waits until a message has arrived.
    async fn travel(&self, from: Slot, to: Slot) -> Result<(), CallError> {
        loop {
            match self.leg(from, to) {
                Leg::Arrives(0) => return Ok(()),
                Leg::Arrives(ms) => {
                    sleep(Duration::from_millis(ms)).await;
                    return Ok(());
                }
                Leg::Broken => return Err(CallError::Broken("connection reset".into())),
                Leg::Stuck => sleep(Duration::from_millis(RETRY_MS)).await,
            }
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        from: Slot,
        address: &str,
        handle: impl FnOnce(PeerService) -> BoxFuture<'static, Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let target = self.processes.lock().get(address).cloned();
        let Some(Endpoint { slot, process, service }) = target else {
            // Even a refusal takes a round trip.
            sleep(Duration::from_millis(1)).await;
            return Err(CallError::Broken("connection refused".into()));
        };
        self.travel(from, slot).await?;
        let handler = tokio::spawn(process.run(handle(service)));
        // A caller that gives up resets its stream, which drops the handler.
        let _abort = AbortOnDrop(handler.abort_handle());
        let handled = tokio::select! {
            biased;
            handled = handler => handled,
            () = process.ended() => return Err(CallError::Broken("connection reset".into())),
        };
        let Ok(handled) = handled else {
            return Err(CallError::Broken("the handler panicked".into()));
        };
        self.travel(slot, from).await?;
        handled.map(Response::into_inner).map_err(CallError::Status)
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The network as one member uses it.
pub(crate) struct MemberTransport {
    pub(crate) slot: Slot,
    pub(crate) network: Arc<Network>,
}

struct Connection {
    slot: Slot,
    address: String,
    network: Arc<Network>,
}

impl Transport for MemberTransport {
    fn open(&self, address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        let (slot, network) = (self.slot, self.network.clone());
        Ok(Arc::new(Connection { slot, address: address.to_owned(), network }))
    }
}

impl PeerConnection for Connection {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>> {
        let network = &self.network;
        network.judge.fetch_sent(self.slot, &request, network.timeline.now_ms());
        async move {
            let handle = |service: PeerService| {
                async move { service.fetch(Request::new(request)).await }.boxed()
            };
            network.call(self.slot, &self.address, handle).await
        }
        .boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        async move {
            let handle = |service: PeerService| {
                async move { service.sync(Request::new(request)).await }.boxed()
            };
            self.network.call(self.slot, &self.address, handle).await
        }
        .boxed()
    }

    fn take_over(
        &self,
        request: TakeOverRequest,
    ) -> BoxFuture<'_, Result<TakeOverResponse, CallError>> {
        async move {
            let handle = |service: PeerService| {
                async move { service.take_over(Request::new(request)).await }.boxed()
            };
            self.network.call(self.slot, &self.address, handle).await
        }
        .boxed()
    }
}
