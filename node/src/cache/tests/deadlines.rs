//! Deadlines and overload: an entry inside its stale-if-error life is better than an error.

use larder_proto::v1::StaleReason;

use super::*;

const SHORT: Freshness = Freshness { stale_while_revalidate_ms: 0, ..FRESHNESS };

/// A member with an entry of `k` that may be answered only in place of an error.
async fn with_stale_entry(limits: Limits) -> Rig {
    let rig = rig(SHORT, limits, Duration::from_millis(20));
    rig.text("k").await;
    pass(1_100).await;
    rig
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_the_answer_when_the_callers_deadline_passes() {
    let rig = with_stale_entry(Limits::default()).await;
    rig.set_origin(Behaviour::Hangs);
    let answer = rig.wait("k").answer(in_ms(50)).await.expect("stale if error");
    assert_eq!((answer.stale_reason, answer.source), (StaleReason::Deadline, Source::Stale));
    assert_eq!(rig.cache.report()[0].gets, [0, 0, 0, 1, 1, 0], "counted as stale");
    pass(10_000).await;
    let late = rig.wait("k").answer(in_ms(50)).await;
    assert!(matches!(late, Err(Error::Deadline { .. })), "past every window: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_invalidated_during_the_wait_is_not_the_answer() {
    let rig = with_stale_entry(Limits::default()).await;
    rig.set_origin(Behaviour::Hangs);
    let wait = rig.wait("k");
    rig.cache.invalidate("g", vec![Bytes::from_static(b"k")]).await.expect("known");
    let answer = wait.answer(in_ms(50)).await;
    assert!(matches!(answer, Err(Error::Deadline { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_again_gets_no_stale_answer_at_its_deadline_and_the_last_ask_does() {
    let rig = with_stale_entry(Limits::default()).await;
    rig.set_origin(Behaviour::Hangs);
    let ask = |asks_once| match rig.cache.get("g", b"k", Caller::Peer { asks_once }) {
        Lookup::Wait(wait) => wait.answer(in_ms(10)),
        Lookup::Done(answer) => panic!("{answer:?}"),
    };
    let first = ask(false).await;
    assert!(matches!(first, Err(Error::Deadline { .. })), "the load may still succeed: {first:?}");
    assert!(ask(true).await.expect("stale if error").is_stale());
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_the_answer_of_an_overloaded_member() {
    let rig = with_stale_entry(Limits { max_waiting_requests: 1, ..Limits::default() }).await;
    rig.set_origin(Behaviour::Hangs);
    // Full flight table and no place to wait: one limit bounds both.
    let _waiting = rig.wait("other");
    let Lookup::Done(answer) = rig.cache.get("g", b"k", Caller::Application) else {
        panic!("decided at once")
    };
    assert_eq!(answer.expect("stale if error").stale_reason, StaleReason::Overloaded);
    let refused = rig.read("without an entry").await;
    assert!(matches!(refused, Err(Error::Overloaded { max: 1 })), "{refused:?}");
    assert_eq!(rig.cache.report()[0].gets[CountedAs::Stale as usize], 1, "counted as stale");
}

#[tokio::test(start_paused = true)]
async fn versions_grow_with_each_load_and_after_a_restart() {
    let rig = plain();
    let mut last = 0;
    for round in 0..10 {
        let version = rig.read(&format!("key {round}")).await.expect("a load").version;
        assert!(version > last, "{version} after {last}");
        last = version;
    }
    let restarted = plain();
    // The restarted member's clock starts at zero; the wall clock has gone on.
    let version = restarted.read("k").await.expect("a load").version;
    assert!(version > 1_000_000_000_000_000, "a counter that starts at zero would not grow");
}
