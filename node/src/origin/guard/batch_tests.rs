//! Batches of an origin that records its calls, on a paused clock.

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use crate::gather::Gathering;

/// How the calls for several keys end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Works,
    Fails,
    Panics,
    Hangs,
}

/// An origin whose values are the keys. `big` fails, `odd` can only be loaded alone, `no…` is
/// absent.
struct Origin {
    behaviour: Behaviour,
    delay: Duration,
    clock: Clock,
    /// When each call began, ms, and its keys.
    calls: Mutex<Vec<(u64, Vec<Bytes>)>>,
}

/// Clones share the guard.
#[derive(Clone)]
struct Rig {
    origin: Arc<Origin>,
    guard: Arc<Guard>,
}

impl Loader for Arc<Origin> {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        let key = Bytes::copy_from_slice(key);
        self.calls.lock().push((self.clock.now_ms(), vec![key.clone()]));
        async {
            sleep(self.delay).await;
            Ok(Loaded::Value(key))
        }
        .boxed()
    }

    fn batch(&self) -> Option<&dyn BatchLoader> {
        Some(self)
    }
}

impl BatchLoader for Arc<Origin> {
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, Error>> {
        self.calls.lock().push((self.clock.now_ms(), keys.to_vec()));
        let outcome = |key: &Bytes| match &key[..] {
            b"big" => BatchedLoad::Failed(Error::TooLarge { max: 1 }),
            b"odd" => BatchedLoad::LoadAlone,
            key if key.starts_with(b"no") => BatchedLoad::Done(Loaded::Absent),
            _ => BatchedLoad::Done(Loaded::Value(key.clone())),
        };
        async move {
            sleep(self.delay).await;
            match self.behaviour {
                Behaviour::Works => Ok(keys.iter().map(outcome).collect()),
                Behaviour::Fails => Err(Error::other("planned")),
                Behaviour::Panics => std::panic::resume_unwind(Box::new("planned")),
                Behaviour::Hangs => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl Rig {
    fn new(behaviour: Behaviour, limits: &OriginLimits) -> Self {
        let clock = Clock::start();
        let delay = Duration::from_millis(20);
        let origin = Arc::new(Origin { behaviour, delay, clock, calls: Mutex::default() });
        let guard = Arc::new(Guard::new(Arc::new(origin.clone()), limits, clock));
        Self { origin, guard }
    }

    /// Starts a load of each key, in this order.
    async fn start(&self, keys: &[&'static str]) -> Vec<JoinHandle<Result<Loaded, Arc<Error>>>> {
        let start = |key: &&'static str| {
            let (rig, key) = (self.clone(), *key);
            tokio::spawn(
                async move { rig.guard.load(key.as_bytes(), Requester::Application).await },
            )
        };
        let loads = keys.iter().map(start).collect();
        tokio::task::yield_now().await;
        loads
    }

    async fn load(&self, keys: &[&'static str]) -> Vec<Result<Loaded, Arc<Error>>> {
        let loads = join_all(self.start(keys).await).await;
        loads.into_iter().map(|load| load.expect("no panic")).collect()
    }

    /// The keys of each call.
    fn calls(&self) -> Vec<Vec<Bytes>> {
        self.origin.calls.lock().iter().map(|(_, keys)| keys.clone()).collect()
    }
}

fn limits(max_keys: u32) -> OriginLimits {
    OriginLimits { max_keys, ..OriginLimits::new(2, 500) }
}

fn value(text: &'static str) -> Loaded {
    Loaded::Value(Bytes::from_static(text.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn the_first_key_is_loaded_at_once_and_the_next_ones_share_a_call() {
    let rig = Rig::new(Behaviour::Works, &limits(100));
    let loaded = rig.load(&["a", "b", "nobody", "c"]).await;
    let loaded: Vec<_> = loaded.into_iter().map(|loaded| loaded.expect("works")).collect();
    assert_eq!(loaded, [value("a"), value("b"), Loaded::Absent, value("c")]);
    let calls = rig.origin.calls.lock().clone();
    let keys = |keys: &[&'static str]| keys.iter().copied().map(Bytes::from).collect::<Vec<_>>();
    assert_eq!(calls, [(0, keys(&["a"])), (1, keys(&["b", "nobody", "c"]))]);
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_one_request_share_one_call() {
    let rig = Rig::new(Behaviour::Works, &limits(100));
    let (gathering, keys) = (Gathering::new(), ["a", "b", "c"]);
    let starts = gathering.key();
    let loads = keys.map(|key| {
        let (rig, gathered) = (rig.clone(), Some(gathering.key()));
        tokio::spawn(async move {
            rig.guard.load_gathered(key.as_bytes(), Requester::Application, gathered).await
        })
    });
    tokio::task::yield_now().await;
    assert!(rig.calls().is_empty(), "the request still starts its reads");
    drop(starts);
    for (load, key) in join_all(loads).await.into_iter().zip(keys) {
        assert_eq!(load.expect("no panic").expect("works"), value(key));
    }
    assert_eq!(rig.calls(), [["a", "b", "c"]]);
}

#[tokio::test(start_paused = true)]
async fn keys_collect_while_every_slot_is_taken_and_no_call_has_more_than_its_limit() {
    let rig = Rig::new(Behaviour::Works, &limits(3));
    let first = rig.start(&["a"]).await;
    advance(Duration::from_millis(2)).await;
    let second = rig.start(&["b"]).await;
    advance(Duration::from_millis(2)).await;
    let loaded = rig.load(&["c", "d", "e", "f"]).await;
    assert!(loaded.iter().all(Result::is_ok));
    assert_eq!(rig.guard.running(), 0);
    drop((first, second));
    let calls: Vec<_> = rig.calls().iter().map(Vec::len).collect();
    assert_eq!(calls, [1, 1, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_key_joins_no_call_that_has_begun() {
    let rig = Rig::new(Behaviour::Works, &limits(100));
    let first = rig.start(&["a"]).await;
    let again = rig.load(&["a"]).await;
    assert_eq!(again[0].as_ref().expect("works"), &value("a"));
    drop(first);
    assert_eq!(rig.calls(), [["a"], ["a"]]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_fails_alone_and_a_key_that_needs_it_is_asked_for_alone() {
    let rig = Rig::new(Behaviour::Works, &limits(100));
    let loaded = rig.load(&["first", "good", "big", "odd"]).await;
    assert_eq!(loaded[1].as_ref().expect("works"), &value("good"));
    assert_eq!(loaded[2].as_ref().expect_err("too large").kind(), "too_large");
    assert_eq!(loaded[3].as_ref().expect("alone"), &value("odd"));
    let calls = [&["first"][..], &["good", "big", "odd"], &["odd"]];
    assert_eq!(rig.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_fails_its_keys_and_counts_once_for_the_breaker() {
    for (behaviour, kind, after_ms) in
        [(Behaviour::Fails, "other", 20), (Behaviour::Hangs, "timed_out", 500)]
    {
        let rig = Rig::new(behaviour, &OriginLimits::new(9, 500));
        let began = Instant::now();
        let loaded = rig.load(&["first", "b", "c", "d", "e", "f", "g"]).await;
        let failed = |loaded: &Result<_, Arc<Error>>| {
            loaded.as_ref().is_err_and(|error| error.kind() == kind)
        };
        assert!(loaded[1..].iter().all(failed), "{loaded:?}");
        assert_eq!(began.elapsed(), Duration::from_millis(after_ms + 1));
        assert_eq!(rig.calls().len(), 2);
        // Five failures would have suspended it.
        assert!(rig.guard.suspension(rig.origin.clock.now_ms()).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_one_token_and_a_refusal_is_that_of_each_key() {
    let rate = Some(LoadRate { loads_per_second: 1, burst: 2 });
    let rig = Rig::new(Behaviour::Works, &OriginLimits { rate, ..limits(100) });
    assert!(rig.load(&["a", "b", "c", "d"]).await.iter().all(Result::is_ok));
    let refused = rig.load(&["e", "f", "g"]).await;
    assert!(refused.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == "rate_limited")));
    assert_eq!(rig.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_whose_leader_panics_or_is_cancelled_are_loaded_alone() {
    let rig = Rig::new(Behaviour::Panics, &limits(100));
    let loads = rig.start(&["a", "b", "c", "d"]).await;
    let ends: Vec<_> = join_all(loads).await.into_iter().map(|end| end.is_err()).collect();
    assert_eq!(ends, [false, true, false, false], "only the leader panics");
    let alone = [&["a"][..], &["b", "c", "d"], &["c"], &["d"]];
    assert_eq!(rig.calls(), alone);

    for cancelled_after_ms in [0, 5] {
        let rig = Rig::new(Behaviour::Works, &limits(100));
        let loads = rig.start(&["a", "b", "c", "d"]).await;
        sleep(Duration::from_millis(cancelled_after_ms)).await;
        loads[1].abort();
        let ends: Vec<_> = join_all(loads).await.into_iter().map(|end| end.is_err()).collect();
        assert_eq!(ends, [false, true, false, false]);
        assert_eq!(rig.calls()[rig.calls().len() - 2..], [["c"], ["d"]]);
        assert!(rig.load(&["e"]).await[0].is_ok(), "the next batch works");
    }
}
