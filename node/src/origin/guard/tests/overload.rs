//! More loads than the origin can answer, on a paused clock.

use std::time::Duration;

use larder_runtime::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::*;

/// Mean time of a load.
const LOAD_TIME: Duration = Duration::from_millis(30);
const SEED: u64 = 7;

/// One load: when it arrived, how long it took, and whether it was refused.
struct Seen {
    arrived: Duration,
    took: Duration,
    outcome: Result<(), Arc<Error>>,
}

/// Load times differ from their mean by up to `spread`, as a share of it.
fn slow_guard(concurrency: u32, spread: f64) -> Arc<Guard> {
    let random = Random::seeded(SEED);
    let slow = from_fn(move |_| {
        let time = LOAD_TIME.mul_f64(1.0 + spread * (2.0 * random.ratio() - 1.0));
        async move {
            sleep(time).await;
            Ok(Loaded::Absent)
        }
    });
    Arc::new(guard(slow, &OriginLimits::new(concurrency, 2_000)))
}

/// Loads for `requester` that arrive at random, `per_second` in the mean, for some time.
async fn arrivals(
    guard: Arc<Guard>,
    requester: Requester,
    per_second: f64,
    time: Duration,
) -> Vec<Seen> {
    let random = Random::seeded(SEED + requester as u64);
    let (begin, mut due, mut loads) = (Instant::now(), Duration::ZERO, JoinSet::new());
    while due < time {
        sleep_until(begin + due).await;
        let guard = guard.clone();
        loads.spawn(async move {
            let arrived = begin.elapsed();
            let outcome = guard.load(b"k", requester).await.map(drop);
            Seen { arrived, took: begin.elapsed() - arrived, outcome }
        });
        due += Duration::from_secs_f64(-(1.0 - random.ratio()).ln() / per_second);
    }
    loads.join_all().await
}

/// Loads per second that saturate so many slots.
fn saturation(concurrency: u32) -> f64 {
    f64::from(concurrency) / LOAD_TIME.as_secs_f64()
}

fn p99(seen: &[Seen]) -> Duration {
    let accepted = seen.iter().filter(|seen| seen.outcome.is_ok());
    let mut times: Vec<Duration> = accepted.map(|seen| seen.took).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn accepted(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.outcome.is_ok()).count()
}

/// Those that arrived after the first two seconds, in which the guard notices an overload and the
/// queue drains.
fn later(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.retain(|seen| seen.arrived >= Duration::from_secs(2));
    seen
}

#[tokio::test(start_paused = true)]
async fn above_saturation_accepted_loads_take_at_most_twice_as_long_and_the_origin_stays_busy() {
    for (concurrency, factor, spread) in [
        (1, 3.0, 0.3),
        (3, 1.5, 0.3),
        (3, 3.0, 0.0),
        (3, 3.0, 0.3),
        (3, 10.0, 0.3),
        (32, 1.5, 0.0),
        (32, 3.0, 0.3),
    ] {
        let full = saturation(concurrency);
        let run = |rate: f64, seconds| {
            let time = Duration::from_secs(seconds);
            arrivals(slow_guard(concurrency, spread), Requester::Application, rate, time)
        };
        let unloaded = p99(&later(run(full / 4.0, 12).await));
        let seen = later(run(full * factor, 7).await);
        let (slow, goodput) = (p99(&seen), accepted(&seen) as f64 / 5.0);
        let case = format!("{concurrency} slots, {factor} times, spread {spread}");
        assert!(slow <= 2 * unloaded, "{case}: p99 {slow:?}, unloaded {unloaded:?}");
        assert!(goodput >= 0.9 * full, "{case}: {goodput} of {full} loads a second");
        let refused = seen.iter().filter(|seen| seen.outcome.is_err());
        assert!(refused.map(|seen| seen.took).all(|took| took.is_zero()), "refused at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_above_saturation_says_how_long_loads_take_and_when_to_retry() {
    let rate = 3.0 * saturation(3);
    let time = Duration::from_secs(4);
    let seen = arrivals(slow_guard(3, 0.3), Requester::Application, rate, time).await;
    for refused in later(seen).iter().filter_map(|seen| seen.outcome.as_ref().err()) {
        let Error::Overloaded { wait, load_time, retry_after } = **refused else {
            panic!("{refused}")
        };
        let (least, most) = (Duration::from_millis(20), Duration::from_millis(40));
        assert!((least..most).contains(&load_time), "{load_time:?}");
        assert!((load_time / 2..load_time * 2).contains(&wait), "{wait:?}");
        // 16 load times, at least half a second, longer by up to 7 eighths.
        let interval = (load_time * 16).max(Duration::from_millis(500));
        assert!((interval..=interval * 15 / 8).contains(&retry_after), "{retry_after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_the_queue_can_hold_is_served_whole_also_after_an_overload() {
    let guard = slow_guard(4, 0.3);
    let burst = async || {
        let places = 4 * (1 + WAITING_PER_SLOT) as usize;
        let loads = (0..places).map(|_| guard.load(b"k", Requester::Application));
        join_all(loads).await.iter().filter(|result| result.is_err()).count()
    };
    for _ in 0..3 {
        assert_eq!(burst().await, 0);
    }
    let (rate, time) = (3.0 * saturation(4), Duration::from_secs(3));
    let seen = arrivals(guard.clone(), Requester::Application, rate, time).await;
    assert!(accepted(&seen) < seen.len() / 2);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(burst().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_kind_of_request_leaves_room_for_the_other() {
    for (flooding, other) in
        [(Requester::Application, Requester::Peer), (Requester::Peer, Requester::Application)]
    {
        let (guard, full, time) = (slow_guard(4, 0.3), saturation(4), Duration::from_secs(12));
        let flood = arrivals(guard.clone(), flooding, 10.0 * full, time);
        let (flood, others) = tokio::join!(flood, arrivals(guard, other, full / 4.0, time));
        let (flood, others) = (later(flood), later(others));
        assert!(accepted(&flood) < flood.len() / 4, "shed");
        let refused = others.len() - accepted(&others);
        assert!(refused * 50 <= others.len(), "{refused} of {} refused", others.len());
        let slow = p99(&others);
        assert!(slow < 4 * LOAD_TIME, "p99 {slow:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_would_wait_longer_than_a_load_may_take_is_refused_at_once() {
    let slow = from_fn(|_| async {
        sleep(Duration::from_millis(400)).await;
        Ok(Loaded::Absent)
    });
    let guard = guard(slow, &limits(2));
    load(&guard, b"k").await.expect("a slot");
    let began = Instant::now();
    let mut refused = 0;
    for (result, after) in join_all((0..10).map(async |_| {
        let result = load(&guard, b"k").await;
        (result, began.elapsed())
    }))
    .await
    {
        let Err(error) = result else { continue };
        assert!(matches!(*error, Error::Busy { .. }), "{error}");
        assert_eq!(after, Duration::ZERO);
        refused += 1;
    }
    assert_eq!(refused, 6, "two run, two wait for at most 500 ms");
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_all_running_loads_is_not_taken_for_a_slow_origin() {
    let slow = from_fn(|key: bytes::Bytes| async move {
        sleep(Duration::from_millis(if key == "stalled" { 400 } else { 30 })).await;
        Ok(Loaded::Absent)
    });
    let guard = guard(slow, &limits(4));
    for _ in 0..50 {
        load(&guard, b"k").await.expect("a slot");
    }
    join_all((0..4).map(|_| load(&guard, b"stalled"))).await;
    assert!((30..60).contains(&guard.mean_load_ms()), "{} ms", guard.mean_load_ms());
    for _ in 0..50 {
        load(&guard, b"stalled").await.expect("a slot");
    }
    assert!(guard.mean_load_ms() > 350, "a lasting change counts: {} ms", guard.mean_load_ms());
}
