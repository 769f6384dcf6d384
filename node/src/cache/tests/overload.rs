//! More loads than the origin can answer, more requests than may wait, and groups that compete for
//! memory.

use larder_proto::v1::StaleReason;

use super::*;
use crate::status::ErrorReply;

const SHORT: Freshness = Freshness { stale_while_revalidate_ms: 0, ..FRESHNESS };
const PEER: Caller = Caller::Peer { asks_once: false };

/// A member whose origin answers 50 loads a second, and that is asked for 140 new keys a second
/// for two seconds.
async fn overloaded() -> Rig {
    let rig = plain();
    rig.apply(SHORT, OriginLimits::new(1, 2_000), rig.loader.clone());
    rig.text("k").await;
    for key in 0..300 {
        _ = rig.cache.get("g", format!("key {key}").as_bytes(), Caller::Application);
        sleep(Duration::from_millis(7)).await;
    }
    // One of these waits, whatever has just ended.
    for key in 1_000..1_004 {
        _ = rig.cache.get("g", format!("key {key}").as_bytes(), Caller::Application);
        tokio::task::yield_now().await;
    }
    rig
}

#[tokio::test(start_paused = true)]
async fn a_shed_read_answers_the_stale_entry_and_says_why() {
    let rig = overloaded().await;
    let began = Instant::now();
    let answer = rig.read("k").await.expect("stale if error");
    assert_eq!(answer.stale_reason, StaleReason::OriginOverloaded);
    let explanation = rig.cache.explain("g", b"k", &answer);
    assert_eq!((explanation.stale, explanation.stale_reason()), (true, answer.stale_reason));
    let reply = ErrorReply::from(rig.read("z").await.expect_err("no entry"));
    assert_eq!((reply.code, reply.reason.as_str()), (Code::ResourceExhausted, "ORIGIN_OVERLOADED"));
    assert!(reply.message.contains("a load takes 20 ms"), "{}", reply.message);
    assert!(reply.retry_after.expect("known") >= Duration::from_millis(500), "{reply:?}");
    assert_eq!(began.elapsed(), Duration::ZERO, "decided at once");
    sleep(Duration::from_secs(2)).await;
    assert!(!rig.read("k").await.expect("no longer overloaded").is_stale());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_waiting_requests_of_one_kind_does_not_refuse_the_other() {
    for (flooding, other) in [(Caller::Application, PEER), (PEER, Caller::Application)] {
        let limits = Limits { max_waiting_requests: 100, ..Limits::default() };
        let rig = rig(FRESHNESS, limits, Duration::from_millis(20));
        let get = |key: usize, caller| rig.cache.get("g", format!("{key}").as_bytes(), caller);
        let flood: Vec<Lookup> = (0..200).map(|key| get(key, flooding)).collect();
        let refused =
            |lookup: &&Lookup| matches!(lookup, Lookup::Done(Err(Error::Overloaded { max: 100 })));
        assert_eq!(flood.iter().filter(refused).count(), 100);
        let others: Vec<Lookup> = (1_000..1_100).map(|key| get(key, other)).collect();
        assert!(others.iter().all(|lookup| matches!(lookup, Lookup::Wait(_))), "{flooding:?}");
        assert_eq!(rig.cache.waiting(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guarantee_keeps_memory_for_its_group_and_can_be_changed() {
    const MIB: u64 = 1 << 20;
    let rig = plain();
    let limits_with = |guaranteed_bytes| {
        let plan = |guaranteed_bytes| GroupPlan {
            policy: PolicyKind::default(),
            freshness: FRESHNESS,
            limits: OriginLimits::new(8, 500),
            guaranteed_bytes,
            origin: OriginSource::Given(rig.loader.clone()),
        };
        let plans = [("g".to_owned(), plan(guaranteed_bytes)), ("h".to_owned(), plan(0))];
        rig.cache.set_groups(&plans.into(), &|_| Ok(rig.loader.clone()));
        rig.cache.sweep();
        let report = rig.cache.report();
        [&report[0], &report[1]].map(|group| group.main.limit_bytes)
    };
    rig.text("k").await;
    let [own, other] = limits_with(6 * MIB);
    assert!(own >= 6 * MIB && other <= 2 * MIB, "{own}, {other} of 8 MiB");
    let [own, other] = limits_with(0);
    assert!(own < 5 * MIB && other > 3 * MIB, "{own}, {other} of 8 MiB");
    assert_eq!(rig.text("k").await, "1", "no entry was dropped");
}
