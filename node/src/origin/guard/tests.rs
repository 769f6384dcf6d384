//! The guard around scripted loaders, on a paused clock.

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;

use super::super::queue::WAITING_PER_SLOT;
use super::*;
use crate::origin::from_fn;

fn limits(concurrency: u32) -> OriginLimits {
    OriginLimits::new(concurrency, 500)
}

fn guard(loader: impl Loader + 'static, limits: &OriginLimits) -> Guard {
    Guard::new(Arc::new(loader), limits, Clock::start())
}

/// An origin that counts its loads and, while `fails` is 1, fails.
fn failing(loads: &Arc<AtomicUsize>, fails: &Arc<AtomicUsize>) -> impl Loader + 'static {
    let (loads, fails) = (loads.clone(), fails.clone());
    from_fn(move |_| {
        loads.fetch_add(1, Ordering::SeqCst);
        let fails = fails.load(Ordering::SeqCst) == 1;
        async move { if fails { Err(Error::other("planned")) } else { Ok(Loaded::Absent) } }
    })
}

async fn load(guard: &Guard, key: &[u8]) -> Result<Loaded, Arc<Error>> {
    guard.load(key, Requester::Application).await
}

async fn pass(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn running_and_waiting_loads_stay_within_their_limits() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&running), Arc::clone(&most));
    let slow = from_fn(move |_| {
        let (running, most) = (Arc::clone(&count), Arc::clone(&peak));
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(Loaded::Absent)
        }
    });
    let guard = guard(slow, &limits(2));
    let results = join_all((0..100).map(|_| load(&guard, b"k"))).await;
    let served = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(served, 2 * (1 + WAITING_PER_SLOT as usize));
    assert!(results.iter().all(|result| match result {
        Ok(loaded) => *loaded == Loaded::Absent,
        Err(error) => matches!(**error, Error::Busy { concurrency: 2, .. }),
    }));
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(guard.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_origin_frees_its_slot_after_the_limit() {
    let hanging = from_fn(|key: bytes::Bytes| async move {
        if key == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(Loaded::Absent)
    });
    let guard = guard(hanging, &limits(1));
    let (hung, waited) = tokio::join!(load(&guard, b"hang"), load(&guard, b"k"));
    let hung = hung.expect_err("hangs");
    assert!(matches!(*hung, Error::TimedOut { timeout_ms: 500, pending: None }), "{hung:?}");
    // The other load waited up to the limit, or got the slot at that moment.
    if let Err(error) = waited {
        assert!(matches!(*error, Error::Busy { .. }), "{error:?}");
    }
    assert_eq!(load(&guard, b"k").await.expect("free again"), Loaded::Absent);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_asks_for_a_retry_when_half_of_the_waiting_loads_are_done() {
    let slow = from_fn(|_| async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok(Loaded::Absent)
    });
    let guard = guard(slow, &OriginLimits::new(1, 1_000));
    for _ in 0..64 {
        load(&guard, b"k").await.expect("room");
    }
    let results = join_all((0..100).map(|_| load(&guard, b"k"))).await;
    let delays: Vec<Duration> = results
        .iter()
        .filter_map(|result| match result.as_ref().err().map(|error| &**error) {
            Some(Error::Busy { retry_after, .. }) => Some(*retry_after),
            _ => None,
        })
        .collect();
    // 8 of the 16 waiting loads take 40 ms each; the delays differ by up to 7 eighths.
    let (least, most) = (Duration::from_millis(300), Duration::from_millis(640));
    assert!(delays.len() >= 83, "{}", delays.len());
    assert!(delays.iter().all(|delay| (least..most).contains(delay)), "{delays:?}");
    assert!(delays.iter().collect::<HashSet<_>>().len() >= 8, "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_asked_once_a_second_and_every_refusal_names_the_failure() {
    let (loads, fails) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
    let guard = guard(failing(&loads, &fails), &limits(8));
    for round in 0_u32..10_000 {
        let error = load(&guard, &round.to_le_bytes()).await.expect_err("planned");
        assert!(error.to_string().contains("planned"), "{error}");
        pass(1).await;
    }
    let loads_while_failing = loads.load(Ordering::SeqCst);
    assert!((13..=15).contains(&loads_while_failing), "{loads_while_failing} loads in 10 s");
    fails.store(0, Ordering::SeqCst);
    pass(1_000).await;
    assert!(
        (0..100).all(|_| guard.suspension(guard.clock.now_ms()).is_none()),
        "a probe may start"
    );
    load(&guard, b"k").await.expect("the probe");
    assert!(guard.health(guard.clock.now_ms()) == Health::Working);
    for round in 0_u32..100 {
        load(&guard, &round.to_le_bytes()).await.expect("in use again");
    }
}

#[tokio::test(start_paused = true)]
async fn loads_that_waited_while_the_origin_failed_do_not_ask_it_one_after_the_other() {
    let loads = Arc::new(AtomicUsize::new(0));
    let count = loads.clone();
    let slow = from_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(Error::other("planned"))
        }
    });
    let guard = guard(slow, &limits(2));
    let keys: Vec<[u8; 4]> = (0_u32..34).map(u32::to_le_bytes).collect();
    let results = join_all(keys.iter().map(|key| load(&guard, key))).await;
    assert!(results.iter().all(Result::is_err));
    let asked = loads.load(Ordering::SeqCst);
    assert!(asked <= 6, "{asked} loads reached the origin");
}

#[tokio::test(start_paused = true)]
async fn errors_about_keys_do_not_suspend_the_origin() {
    let refusing = from_fn(|key: bytes::Bytes| async move {
        match &key[..] {
            b"good" => Ok(Loaded::Absent),
            _ => Err(Error::Status { place: "web:80".into(), status: 400 }),
        }
    });
    let guard = guard(refusing, &limits(8));
    for round in 0_u32..1_000 {
        let error = load(&guard, &round.to_le_bytes()).await.expect_err("refused");
        assert!(matches!(*error, Error::Status { .. }), "{error}");
        assert!(guard.health(guard.clock.now_ms()) == Health::Working);
    }
    load(&guard, b"good").await.expect("in use");
}

#[tokio::test(start_paused = true)]
async fn the_bucket_limits_loads_per_second_and_a_refusal_says_when_to_retry() {
    let (loads, fails) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let rate = Some(LoadRate { loads_per_second: 20, burst: 5 });
    let guard = guard(failing(&loads, &fails), &OriginLimits { rate, ..limits(8) });
    for round in 0..10_000 {
        if let Err(error) = load(&guard, b"k").await {
            let Error::RateLimited { loads_per_second: 20, retry_after } = *error else {
                panic!("{error:?}")
            };
            // 50 ms for a token, longer by up to 7 eighths.
            assert!(retry_after <= Duration::from_millis(94), "{retry_after:?} in round {round}");
        }
        pass(1).await;
    }
    let loads = loads.load(Ordering::SeqCst);
    assert!((200..=205).contains(&loads), "{loads} loads in 10 s");
    assert!(
        guard.health(guard.clock.now_ms()) == Health::Working,
        "a refusal is no failure of the origin"
    );
}

mod overload;
