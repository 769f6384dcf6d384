//! One peer behind a transport that records requests and answers as the test says.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use larder_proto::config::Placement;
use larder_proto::registry::{Metadata, Registration};
use larder_proto::v1::{
    FetchRequest, FetchResponse, SyncRequest, SyncResponse, TakeOverRequest, TakeOverResponse,
};
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::super::deps::PeerDeps;
use super::super::directory::Peers;
use super::super::peer::Peer;
use super::super::ring::Owner;
use super::super::transport::{CallError, InvalidAddress, PeerConnection, Transport};
use super::*;
use crate::gather::Gathering;
use crate::metrics::RingMetrics;
use crate::peers::{Past, in_step};

/// How the peer behaves.
#[derive(Debug, Clone, Copy)]
struct Behaviour {
    sync_after: Duration,
    /// Batches are answered at once with this code.
    batch: Code,
    /// Further calls are answered after this time.
    alone_after: Duration,
}

struct Scripted {
    behaviour: Behaviour,
    /// When each fetch began, ms, and the time that it gave the owner.
    fetches: Mutex<Vec<(u64, u32)>>,
    clock: Clock,
}

struct Rig {
    peers: Peers,
    scripted: Arc<Scripted>,
    _tasks: Tasks,
}

const NEVER: Duration = Duration::from_secs(3_600);
const PROMPT: Behaviour =
    Behaviour { sync_after: Duration::ZERO, batch: Code::Ok, alone_after: Duration::ZERO };
/// Every key is being loaded.
const LOADING: Behaviour = Behaviour { batch: Code::DeadlineExceeded, ..PROMPT };

impl Transport for Arc<Scripted> {
    fn open(&self, _address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress> {
        Ok(Arc::new(self.clone()))
    }
}

impl PeerConnection for Arc<Scripted> {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>> {
        let number = {
            let mut fetches = self.fetches.lock();
            fetches.push((self.clock.now_ms(), request.keys[0].timeout_ms));
            fetches.len()
        };
        let (code, after) = match number {
            1 => (self.behaviour.batch, Duration::ZERO),
            _ => (Code::Ok, self.behaviour.alone_after),
        };
        let outcome = if code == Code::Ok { Outcome::Found } else { Outcome::Error };
        let result =
            FetchResult { outcome: outcome.into(), code: code.into(), ..FetchResult::default() };
        let results = vec![result; request.keys.len()];
        async move {
            sleep(after).await;
            Ok(FetchResponse { results, ..FetchResponse::default() })
        }
        .boxed()
    }

    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>> {
        async move {
            sleep(self.behaviour.sync_after).await;
            Ok(in_step("shop-1", request))
        }
        .boxed()
    }

    fn take_over(&self, _: TakeOverRequest) -> BoxFuture<'_, Result<TakeOverResponse, CallError>> {
        std::future::ready(Ok(TakeOverResponse::default())).boxed()
    }
}

impl Rig {
    fn new(behaviour: Behaviour) -> Self {
        let tasks = Tasks::new(Handle::current());
        let clock = Clock::start();
        let scripted = Arc::new(Scripted { behaviour, fetches: Mutex::default(), clock });
        let deps = PeerDeps {
            member: "shop-0".into(),
            uid: "a pod".into(),
            transport: Arc::new(scripted.clone()),
            tasks: tasks.clone(),
            clock,
            random: Random::seeded(1),
            metrics: RingMetrics::register(&Registry::new()),
            load_timeout: Duration::from_secs(5),
            capacity_bytes: 8 << 20,
            past: Past::default(),
        };
        let peers = Peers::new(Placement::Rendezvous {}, deps);
        let registration = Registration {
            op: 0,
            address: "a:1".into(),
            metadata: Metadata {
                uid: "another pod".into(),
                peer_address: "a:2".into(),
                http_address: "a:3".into(),
                weight: 1,
                zone: None,
                version: "0".into(),
            },
        };
        peers.update(1, &BTreeMap::from([("shop-1".to_owned(), registration)]));
        Self { peers, scripted, _tasks: tasks }
    }

    fn peer(&self) -> Arc<Peer> {
        match self.peers.view().owner("g", b"k") {
            Owner::There(peer) => peer.clone(),
            Owner::Here => panic!("the peer is the only member, but bypassed"),
        }
    }

    async fn fetch(&self, patience: Duration) -> Result<FetchResult, Unanswered> {
        let (group, key) = ("g".into(), Bytes::from_static(b"k"));
        self.peer().fetch(&group, &key, Instant::now() + patience, None).await
    }

    /// When each fetch began and the time that it gave the owner, ms.
    fn fetches(&self) -> Vec<(u64, u32)> {
        self.scripted.fetches.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_gets_the_callers_remaining_time_less_the_hop() {
    for (patience_ms, batch_ms, alone_ms) in [(3_000, 10, 2_990), (60_000, 10, 5_000)] {
        let rig = Rig::new(LOADING);
        let answer = rig.fetch(Duration::from_millis(patience_ms)).await.expect("an answer");
        assert_eq!(answer.outcome(), Outcome::Found);
        let given: Vec<u32> = rig.fetches().into_iter().map(|(_, ms)| ms).collect();
        assert_eq!(given, [batch_ms, alone_ms], "{patience_ms} ms left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_hardly_any_time_left_never_gives_the_owners_default() {
    for (patience_ms, given_ms) in [(9, 4), (5, 2), (2, 1), (1, 1)] {
        let rig = Rig::new(PROMPT);
        sleep(Duration::from_millis(100)).await;
        rig.fetch(Duration::from_millis(patience_ms)).await.expect("an answer");
        assert_eq!(rig.fetches(), [(100, given_ms)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_at_its_deadline_without_evidence_against_the_peer() {
    let rig = Rig::new(Behaviour { alone_after: NEVER, ..LOADING });
    let began = Instant::now();
    let answer = rig.fetch(Duration::from_secs(4)).await;
    assert_eq!((answer, began.elapsed()), (Err(Unanswered::Deadline), Duration::from_secs(4)));
    assert!(rig.peer().is_up());
}

#[tokio::test(start_paused = true)]
async fn keys_for_a_new_peer_wait_for_its_first_sync() {
    let rig = Rig::new(Behaviour { sync_after: Duration::from_millis(300), ..PROMPT });
    rig.fetch(Duration::from_secs(1)).await.expect("an answer");
    assert_eq!(rig.fetches()[0].0, 300);
}

#[tokio::test(start_paused = true)]
async fn a_new_peer_that_does_not_sync_is_bypassed_without_a_call() {
    let rig = Rig::new(Behaviour { sync_after: NEVER, ..PROMPT });
    let (peer, began) = (rig.peer(), Instant::now());
    assert_eq!(rig.fetch(Duration::from_secs(5)).await, Err(Unanswered::Failed));
    assert!(began.elapsed() <= Duration::from_millis(510), "{:?}", began.elapsed());
    assert!(!peer.is_up() && rig.fetches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_one_request_travel_in_one_call_which_gives_the_owner_the_time_of_a_load() {
    for behaviour in [PROMPT, LOADING] {
        let rig = Rig::new(behaviour);
        let (peer, group, gathering) = (rig.peer(), "g".into(), Gathering::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        let starts = gathering.key();
        let keys = ["a", "b", "c"].map(Bytes::from);
        let fetches = keys.each_ref().map(|key| {
            let gathered = Some(gathering.key());
            peer.fetch(&group, key, deadline, gathered)
        });
        let end_of_starts = async {
            sleep(Duration::from_millis(20)).await;
            drop(starts);
        };
        let (answers, ()) = tokio::join!(join_all(fetches), end_of_starts);
        let codes: Vec<_> = answers.into_iter().map(|answer| answer.expect("one").code).collect();
        assert_eq!(codes, [i32::from(behaviour.batch); 3], "final, also if the time was too short");
        assert_eq!(rig.fetches(), [(20, 5_000)]);
    }
}
