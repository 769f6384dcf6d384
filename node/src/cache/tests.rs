//! The read path of one member, on a paused clock, with a scripted origin.

mod batch;
mod deadlines;
mod guard;
mod origin_change;
mod overload;
mod peered;
mod revalidation;
mod tags;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_engine::{CURVE_PERCENTS, PolicyKind};
use larder_proto::config::{Limits, Placement};
use larder_proto::contract::{Freshness, OriginLimits};
use larder_proto::v1::admin_server::Admin;
use larder_proto::v1::{self, CurveRequest, HotKeysRequest, Source};
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::time::{Instant, advance, sleep};
use tonic::{Code, Request, Response};

use super::*;
use crate::config;
use crate::grpc::admin::AdminService;
use crate::metrics::{CacheMetrics, CountedAs, EngineCollector, RingMetrics};
use crate::origin::{self, Loaded};
use crate::peers::{Grpc, Past, PeerDeps, Peers, Transport};

/// How the origin behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Works,
    HasNoSuchKey,
    RefusesKey,
    Fails,
    Panics,
    Hangs,
}

/// An origin whose value is the number of the load.
struct Origin {
    loads: AtomicUsize,
    behaviour: parking_lot::Mutex<Behaviour>,
    delay: Duration,
}

struct Rig {
    cache: Cache,
    origin: Arc<Origin>,
    loader: Arc<dyn origin::Loader>,
    tasks: Tasks,
}

const FRESHNESS: Freshness = Freshness {
    ttl_ms: 1_000,
    jitter_percent: 0,
    stale_while_revalidate_ms: 500,
    stale_if_error_ms: 10_000,
    negative_ttl_ms: 300,
    early_refresh_percent: 0,
};

fn rig(freshness: Freshness, limits: Limits, delay: Duration) -> Rig {
    rig_with(Arc::new(Grpc::default()), freshness, limits, delay)
}

fn rig_with(
    transport: Arc<dyn Transport>,
    freshness: Freshness,
    limits: Limits,
    delay: Duration,
) -> Rig {
    let tasks = Tasks::new(Handle::current());
    let registry = Registry::new();
    let member: Arc<str> = "shop-0".into();
    let clock = Clock::start();
    let peers = PeerDeps {
        member: member.clone(),
        uid: "a pod".into(),
        transport,
        tasks: tasks.clone(),
        clock,
        random: Random::seeded(1),
        metrics: RingMetrics::register(&registry),
        load_timeout: Duration::from_secs(5),
        capacity_bytes: 8 << 20,
        past: Past::default(),
    };
    let settings = config::MemberConfig {
        registry: None,
        placement: Placement::Rendezvous {},
        main_bytes: 8 << 20,
        hot_bytes: 1 << 20,
        hot_ttl_ms: 1_000,
        hot_percent: 0,
        memory_bytes: None,
        replica_percent: 0,
        snapshot: None,
    };
    let deps = CacheDeps {
        member,
        limits,
        clock,
        random: Random::seeded(2),
        tasks: tasks.clone(),
        peers: Peers::new(Placement::Rendezvous {}, peers),
        metrics: CacheMetrics::register(&registry),
    };
    let cache = Cache::new(&settings, deps);
    let origin = Arc::new(Origin {
        loads: AtomicUsize::new(0),
        behaviour: parking_lot::Mutex::new(Behaviour::Works),
        delay,
    });
    let asked = origin.clone();
    let loader = Arc::new(origin::from_fn(move |_| load(asked.clone())));
    let rig = Rig { cache, origin, loader, tasks };
    rig.apply_contract(freshness);
    rig
}

fn plain() -> Rig {
    rig(FRESHNESS, Limits::default(), Duration::from_millis(20))
}

impl Rig {
    /// Applies a contract with the same origin.
    fn apply_contract(&self, freshness: Freshness) {
        self.apply(freshness, OriginLimits::new(8, 60_000), self.loader.clone());
    }

    fn apply(&self, freshness: Freshness, limits: OriginLimits, loader: Arc<dyn origin::Loader>) {
        let origin = OriginSource::Given(loader);
        let (policy, guaranteed_bytes) = (PolicyKind::default(), 0);
        let plan = GroupPlan { policy, freshness, limits, guaranteed_bytes, origin };
        self.cache.set_groups(&[("g".to_owned(), plan)].into(), &|plan| match &plan.origin {
            OriginSource::Given(loader) => Ok(loader.clone()),
            OriginSource::Described(_) => Err("no described origin in this test".into()),
        });
    }

    /// Starts a read that has to wait.
    fn wait(&self, key: &str) -> Wait {
        match self.cache.get("g", key.as_bytes(), Caller::Application) {
            Lookup::Wait(wait) => wait,
            Lookup::Done(answer) => panic!("{answer:?}"),
        }
    }

    async fn read(&self, key: &str) -> Result<Answer, Error> {
        self.cache.read("g", key.as_bytes()).await
    }

    /// The value as text.
    async fn text(&self, key: &str) -> String {
        let answer = self.read(key).await.expect("an answer");
        String::from_utf8(answer.present().expect("present").to_vec()).expect("text")
    }

    fn set_origin(&self, behaviour: Behaviour) {
        *self.origin.behaviour.lock() = behaviour;
    }

    fn loads(&self) -> usize {
        self.origin.loads.load(Ordering::SeqCst)
    }
}

async fn load(origin: Arc<Origin>) -> Result<Loaded, origin::Error> {
    let number = origin.loads.fetch_add(1, Ordering::SeqCst) + 1;
    let behaviour = *origin.behaviour.lock();
    sleep(origin.delay).await;
    match behaviour {
        Behaviour::Works => Ok(Loaded::Value(number.to_string().into())),
        Behaviour::HasNoSuchKey => Ok(Loaded::Absent),
        Behaviour::RefusesKey => Err(origin::Error::Key),
        Behaviour::Fails => Err(origin::Error::other("planned")),
        Behaviour::Panics => std::panic::resume_unwind(Box::new("planned")),
        Behaviour::Hangs => std::future::pending().await,
    }
}

async fn pass(ms: u64) {
    advance(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cold_key_is_loaded_once_for_all_callers_and_a_hit_needs_no_wait() {
    let rig = plain();
    let reads = (0..100).map(|_| rig.text("k"));
    assert!(futures::future::join_all(reads).await.iter().all(|text| text == "1"));
    assert_eq!(rig.loads(), 1);
    let Lookup::Done(Ok(answer)) = rig.cache.get("g", b"k", Caller::Application) else {
        panic!("a hit is decided at once");
    };
    assert_eq!(answer.source, Source::Local);
    assert_eq!(answer.remaining_ms, 1_000);
    assert_eq!(rig.cache.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_answered_at_once_while_one_reload_runs() {
    let rig = plain();
    rig.text("k").await;
    pass(1_100).await;
    for _ in 0..50 {
        let Lookup::Done(Ok(answer)) = rig.cache.get("g", b"k", Caller::Application) else {
            panic!("no slow read");
        };
        assert!(answer.is_stale());
        assert_eq!((answer.remaining_ms, answer.reported_source()), (0, Source::Stale));
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!((rig.text("k").await.as_str(), rig.loads()), ("2", 2));
}

#[tokio::test(start_paused = true)]
async fn while_the_origin_fails_the_stale_entry_is_answered_and_the_origin_is_probed_once_a_second()
{
    let rig = plain();
    rig.text("k").await;
    rig.set_origin(Behaviour::Fails);
    pass(2_000).await;
    let began = Instant::now();
    let (mut reads, before) = (0, rig.loads());
    while began.elapsed() < Duration::from_secs(5) {
        let answer = rig.read("k").await.expect("the stale entry");
        assert!(answer.is_stale(), "marked stale");
        reads += 1;
        sleep(Duration::from_millis(10)).await;
    }
    let probes = rig.loads() - before;
    assert!((4..=6).contains(&probes), "{probes} probes for {reads} reads");
    pass(10_000).await;
    assert!(matches!(rig.read("k").await, Err(Error::Origin { .. })), "past every window");
    rig.set_origin(Behaviour::Works);
    pass(1_000).await;
    assert!(!rig.read("k").await.expect("back").is_stale());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_origin_cannot_take_does_not_suspend_the_origin() {
    let rig = plain();
    rig.text("k").await;
    rig.set_origin(Behaviour::RefusesKey);
    pass(2_000).await;
    let refused = rig.read("..").await;
    assert!(matches!(refused, Err(Error::Origin { .. })), "{refused:?}");
    rig.set_origin(Behaviour::Works);
    assert!(
        !rig.read("k").await.expect("an answer").is_stale(),
        "loaded again, not answered stale"
    );
}

/// Reads a key every 2 ms for 20 s. Returns the reads that did not get a fresh value at once.
async fn late_reads(rig: &Rig) -> usize {
    rig.text("k").await;
    let began = Instant::now();
    let mut late = 0;
    while began.elapsed() < Duration::from_secs(20) {
        match rig.cache.get("g", b"k", Caller::Application) {
            Lookup::Done(Ok(answer)) if !answer.is_stale() => {}
            _ => late += 1,
        }
        sleep(Duration::from_millis(2)).await;
    }
    late
}

#[tokio::test(start_paused = true)]
async fn early_refresh_reloads_a_busy_key_before_its_ttl_ends() {
    let rig = plain();
    assert!(late_reads(&rig).await > 100, "each load lets reads find the entry expired");
    let loads = rig.loads();
    rig.apply_contract(Freshness { early_refresh_percent: 200, ..FRESHNESS });
    assert_eq!(late_reads(&rig).await, 0);
    let loads = rig.loads() - loads;
    assert!((20..=30).contains(&loads), "{loads} loads in 20 lives of 1 s");
}

#[tokio::test(start_paused = true)]
async fn absent_is_cached_for_its_own_ttl() {
    let rig = plain();
    rig.set_origin(Behaviour::HasNoSuchKey);
    for _ in 0..2 {
        let answer = rig.read("k").await.expect("an answer");
        assert_eq!((answer.present(), answer.reported_source()), (None, Source::Absent));
    }
    assert_eq!(rig.loads(), 1);
    pass(301).await;
    rig.set_origin(Behaviour::Works);
    assert_eq!(rig.text("k").await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_loader_fails_its_waiters_and_the_next_read_loads_again() {
    let rig = plain();
    rig.set_origin(Behaviour::Panics);
    let (a, b) = tokio::join!(rig.read("k"), rig.read("k"));
    for outcome in [a, b] {
        assert!(matches!(outcome, Err(Error::Panicked { .. })), "{outcome:?}");
    }
    rig.set_origin(Behaviour::Works);
    assert_eq!(rig.text("k").await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_loader_keeps_each_waiter_only_until_its_own_deadline() {
    let rig = plain();
    rig.set_origin(Behaviour::Hangs);
    let began = Instant::now();
    let wait = |ms| match rig.cache.get("g", b"k", Caller::Application) {
        Lookup::Wait(wait) => wait.answer(began + Duration::from_millis(ms)),
        Lookup::Done(answer) => panic!("{answer:?}"),
    };
    let (short, long) = tokio::join!(wait(30), wait(400));
    assert!(matches!((short, long), (Err(Error::Deadline { .. }), Err(Error::Deadline { .. }))));
    assert_eq!(began.elapsed(), Duration::from_millis(400));
    assert_eq!(rig.cache.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_an_invalidation_is_neither_stored_nor_joined_after_it() {
    let rig = plain();
    // 1. a load starts; 2. the key is invalidated; 3. another read starts; 4. the load ends.
    let old = rig.cache.get("g", b"k", Caller::Application);
    sleep(Duration::from_millis(5)).await;
    let done = rig.cache.invalidate("g", vec![Bytes::from_static(b"k")]).await.expect("known");
    assert_eq!((done.reached, done.total), (1, 1));
    assert_eq!(rig.text("k").await, "2", "the read started after the invalidation");
    let Lookup::Wait(old) = old else { panic!("cold") };
    let answer = old.answer(rig.cache.default_deadline()).await.expect("its own load");
    assert_eq!(answer.present().expect("present"), "1");
    assert_eq!(rig.text("k").await, "2", "the old load was not stored");
    assert_eq!(rig.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_group_is_loaded_again() {
    let rig = plain();
    rig.text("a").await;
    rig.text("b").await;
    rig.cache.invalidate("g", Vec::new()).await.expect("known");
    assert_eq!(rig.text("a").await, "3");
}

#[tokio::test(start_paused = true)]
async fn more_waiting_requests_than_the_limit_are_refused_and_start_no_load() {
    let limits = Limits { max_waiting_requests: 2, ..Limits::default() };
    let rig = rig(FRESHNESS, limits, Duration::from_millis(20));
    let waits: Vec<Lookup> =
        (0..2).map(|_| rig.cache.get("g", b"a", Caller::Application)).collect();
    let refused = rig.read("b").await;
    assert!(matches!(refused, Err(Error::Overloaded { max: 2 })), "{refused:?}");
    drop(waits);
    assert_eq!(rig.text("b").await, "2", "places are given back");
}

#[tokio::test(start_paused = true)]
async fn each_invalid_request_has_its_own_error() {
    let limits = Limits { max_key_bytes: 4, ..Limits::default() };
    let rig = rig(FRESHNESS, limits, Duration::ZERO);
    assert!(matches!(rig.read("").await, Err(Error::EmptyKey)));
    let long = rig.read("abcde").await;
    assert!(matches!(long, Err(Error::KeyTooLong { bytes: 5, max: 4 })), "{long:?}");
    let unknown = rig.cache.read("h", b"k").await.expect_err("no such group");
    assert!(matches!(&unknown, Error::UnknownGroup { group } if group == "h"), "{unknown}");
    assert_eq!(rig.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_changed_contract_keeps_entries_and_applies_to_them() {
    let rig = plain();
    rig.text("k").await;
    pass(200).await;
    rig.apply_contract(Freshness { ttl_ms: 100, stale_while_revalidate_ms: 0, ..FRESHNESS });
    assert_eq!(rig.text("k").await, "2", "200 ms are too old now");
    rig.apply_contract(Freshness { ttl_ms: 5_000, ..FRESHNESS });
    let answer = rig.read("k").await.expect("kept");
    assert_eq!((answer.source, rig.loads()), (Source::Local, 2), "the entry was kept");
    rig.cache.set_groups(&std::collections::BTreeMap::new(), &|_| Err("none".into()));
    assert!(matches!(rig.read("k").await, Err(Error::UnknownGroup { .. })));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_reads_with_every_outcome_leave_nothing_behind() {
    let rig = plain();
    for round in 0..10_000_u32 {
        rig.set_origin(match round % 4 {
            0 => Behaviour::Works,
            1 => Behaviour::Fails,
            2 => Behaviour::Panics,
            _ => Behaviour::HasNoSuchKey,
        });
        let key = (round % 97).to_le_bytes();
        if let Lookup::Wait(wait) = rig.cache.get("g", &key, Caller::Application)
            && round % 3 == 0
        {
            let early = Instant::now() + Duration::from_millis(u64::from(round % 40));
            _ = wait.answer(early).await;
        }
    }
    assert_eq!(rig.tasks.stop(Duration::from_secs(1)).await, Ok(()));
    assert_eq!((rig.cache.waiting(), rig.tasks.running()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_busy_group_reports_its_curve_and_its_hot_keys_without_values() {
    let rig = plain();
    let registry = Registry::new();
    let cache = rig.cache.clone();
    EngineCollector::register(&registry, move || cache.figures());
    let admin = AdminService::new(rig.cache.clone(), RingMetrics::register(&Registry::new()));
    let curve = async |group: &str| {
        admin
            .curve(Request::new(CurveRequest { group: group.into() }))
            .await
            .map(Response::into_inner)
    };
    let predicted = || {
        let families = registry.gather().into_iter();
        let found = families.filter(|family| family.name() == "larder_predicted_hit_ratio");
        found.map(|family| family.get_metric().len()).sum::<usize>()
    };
    let early = curve("g").await.expect("known");
    assert_eq!((early.sampled, early.needed, early.sizes.len()), (0, 1_000, 0));
    assert_eq!(predicted(), 0, "no prediction from too few reads");
    for round in 0..3_000_u32 {
        rig.text(if round % 2 == 0 { "hot" } else { "warm" }).await;
        rig.text(&format!("key-{}", round % 20)).await;
        if round % 250 == 0 {
            rig.cache.sweep();
        }
    }
    let curve_now = curve("g").await.expect("known");
    assert_eq!((curve_now.sizes.len(), curve_now.policies.len()), (5, PolicyKind::ALL.len()));
    assert!(curve_now.actual > 0.9 && curve_now.requests >= 6_000, "{curve_now:?}");
    assert!(
        curve_now.sizes.iter().all(|size| (size.hit_ratio - curve_now.actual).abs() < 0.01),
        "{curve_now:?}"
    );
    assert_eq!(predicted(), CURVE_PERCENTS.len() + 1);

    let hot = admin.hot_keys(Request::new(HotKeysRequest { group: String::new(), limit: 2 })).await;
    let mut keys = hot.expect("every group").into_inner().keys;
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(keys.iter().map(|hot| &hot.key[..]).collect::<Vec<_>>(), [b"hot", &b"warm"[..]]);
    assert!(keys.iter().all(|hot| hot.group == "g" && hot.reads_per_second > 50.0), "{keys:?}");

    let unknown = curve("teachers").await.expect_err("no such group");
    assert_eq!(unknown.code(), Code::FailedPrecondition);
}
