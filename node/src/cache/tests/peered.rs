//! A member with one peer, behind a transport that answers as the test says.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::registry::{Metadata, Registration};
use larder_proto::v1::{
    FetchRequest, FetchResponse, FetchResult, Outcome, StaleReason, SyncRequest, SyncResponse,
    TakeOverRequest, TakeOverResponse,
};

use super::*;
use crate::peers::{CallError, InvalidAddress, Owner, PeerConnection, Transport, in_step};

/// The peer. It never answers a take-over.
struct Scripted {
    /// The result of every fetch.
    result: FetchResult,
    /// A response arrives this much later than the peer sent it.
    held_up: Duration,
    fetches: AtomicUsize,
}

impl Transport for Arc<Scripted> {
    fn open(&self, _address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        Ok(Arc::new(self.clone()))
    }
}

impl PeerConnection for Arc<Scripted> {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let results = vec![self.result.clone(); request.keys.len()];
        async move {
            sleep(self.held_up).await;
            Ok(FetchResponse { results, ..FetchResponse::default() })
        }
        .boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        std::future::ready(Ok(in_step("shop-1", request))).boxed()
    }

    fn take_over(&self, _: TakeOverRequest) -> BoxFuture<'_, Result<TakeOverResponse, CallError>> {
        std::future::pending().boxed()
    }
}

fn registration(name: &str) -> (String, Registration) {
    let metadata = Metadata {
        uid: format!("pod of {name}"),
        peer_address: format!("{name}:2"),
        http_address: format!("{name}:3"),
        weight: 1,
        zone: None,
        version: "0".into(),
    };
    (name.to_owned(), Registration { op: 0, address: format!("{name}:1"), metadata })
}

fn peered(result: FetchResult, held_up: Duration) -> (Rig, Arc<Scripted>) {
    let scripted = Arc::new(Scripted { result, held_up, fetches: AtomicUsize::new(0) });
    let delay = Duration::from_millis(20);
    let rig = rig_with(Arc::new(scripted.clone()), FRESHNESS, Limits::default(), delay);
    (rig, scripted)
}

/// A key that the ring places on this member, or on the peer.
fn key_placed(rig: &Rig, here: bool) -> String {
    let view = rig.cache.peers().view();
    let is_here = |key: &String| matches!(view.owner("g", key.as_bytes()), Owner::Here);
    (0..).map(|n| format!("key {n}")).find(|key| is_here(key) == here).expect("one of many")
}

fn stale_for(stale_remaining_ms: u64) -> FetchResult {
    FetchResult {
        outcome: Outcome::Found.into(),
        value: "old".into(),
        source: Source::Stale.into(),
        stale: true,
        stale_reason: StaleReason::Revalidating.into(),
        stale_remaining_ms,
        ..FetchResult::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_that_was_held_up_past_its_window_is_not_the_answer() {
    for (stale_remaining_ms, expected) in [(301, "old"), (300, "1"), (0, "1")] {
        let (rig, peer) = peered(stale_for(stale_remaining_ms), Duration::from_millis(300));
        rig.cache.peers().update(1, &BTreeMap::from([registration("shop-1")]));
        let key = key_placed(&rig, false);
        assert_eq!(rig.text(&key).await, expected, "{stale_remaining_ms} ms left");
        let asked_again = peer.fetches.load(Ordering::SeqCst) > 1;
        assert_eq!(asked_again, expected != "old", "{stale_remaining_ms} ms left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_an_invalidation_overtook_before_it_began_joins_the_next_one() {
    let (rig, _) = peered(FetchResult::default(), Duration::ZERO);
    let peers = rig.cache.peers();
    peers.update(1, &BTreeMap::from([registration("shop-1")]));
    peers.update(2, &BTreeMap::from([registration("shop-0"), registration("shop-1")]));
    let key = key_placed(&rig, true);
    // Both flights wait for the previous owner first.
    let first = rig.wait(&key);
    sleep(Duration::from_millis(10)).await;
    rig.cache.invalidate("g", vec![Bytes::from(key.clone())]).await.expect("known");
    let second = rig.wait(&key);
    let deadline = rig.cache.default_deadline();
    let (first, second) = tokio::join!(first.answer(deadline), second.answer(deadline));
    assert_eq!(first.expect("loaded").version, second.expect("loaded").version);
    assert_eq!(rig.loads(), 1);
}
