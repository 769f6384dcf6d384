//! A failing origin and a limited one: what is asked, what is answered, and why.

use larder_proto::contract::LoadRate;
use larder_proto::v1::StaleReason;

use super::*;
use crate::status::ErrorReply;

const SHORT: Freshness = Freshness { stale_while_revalidate_ms: 0, ..FRESHNESS };

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_asked_once_a_second_also_for_keys_without_an_entry() {
    let rig = plain();
    rig.set_origin(Behaviour::Fails);
    let began = Instant::now();
    let mut reads = 0_u32;
    while began.elapsed() < Duration::from_secs(10) {
        let error = rig.read(&format!("key {reads}")).await.expect_err("planned");
        assert!(matches!(error, Error::Origin { .. }), "{error}");
        reads += 1;
        sleep(Duration::from_millis(5)).await;
    }
    // Five failures suspend it; then one probe a second.
    assert!(reads > 1_000, "refused at once: {reads} reads");
    assert!((13..=15).contains(&rig.loads()), "{} loads for {reads} reads", rig.loads());
    let reply = ErrorReply::from(rig.read("another").await.expect_err("planned"));
    assert_eq!((reply.code, reply.reason.as_str()), (Code::Unavailable, "ORIGIN_FAILED"));
    assert!(reply.retry_after.expect("known") <= Duration::from_secs(2), "{reply:?}");

    rig.set_origin(Behaviour::Works);
    pass(1_000).await;
    for key in 0..100 {
        rig.read(&format!("after {key}")).await.expect("in use again after one probe");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_reads_of_a_suspended_origin_start_one_probe() {
    let rig = plain();
    rig.set_origin(Behaviour::Fails);
    for key in ["a", "b", "c", "d", "e"] {
        rig.read(key).await.expect_err("planned");
    }
    pass(1_000).await;
    let keys: Vec<String> = (0..200).map(|key| format!("key {key}")).collect();
    let reads = futures::future::join_all(keys.iter().map(|key| rig.read(key))).await;
    assert!(reads.iter().all(Result::is_err));
    assert_eq!(rig.loads(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_is_loaded_once_a_second_and_affects_no_other_key() {
    let rig = plain();
    rig.text("good").await;
    rig.set_origin(Behaviour::Fails);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        rig.read("bad").await.expect_err("planned");
        sleep(Duration::from_millis(10)).await;
    }
    let loads = rig.loads() - 1;
    assert!((4..=6).contains(&loads), "{loads} loads of the bad key");
    rig.set_origin(Behaviour::Works);
    assert!(!rig.read("good").await.expect("expired, loaded").is_stale());
    rig.read("bad").await.expect_err("remembered");
    rig.cache.invalidate("g", vec![Bytes::from_static(b"bad")]).await.expect("known");
    rig.read("bad").await.expect("an invalidation forgets the error");
}

#[tokio::test(start_paused = true)]
async fn one_bad_key_does_not_keep_stale_entries_stale_in_a_quiet_group() {
    let rig = plain();
    rig.text("k").await;
    pass(1_100).await;
    rig.set_origin(Behaviour::Fails);
    for _ in 0..5 {
        rig.read("bad").await.expect_err("planned");
        pass(1_000).await;
    }
    rig.set_origin(Behaviour::Fails);
    rig.read("bad").await.expect_err("planned");
    rig.set_origin(Behaviour::Works);
    assert!(!rig.read("k").await.expect("a load").is_stale(), "the bad key failed 20 ms ago");
}

#[tokio::test(start_paused = true)]
async fn a_read_refused_by_the_bucket_answers_the_stale_entry_and_says_why() {
    let rig = plain();
    let rate = Some(LoadRate { loads_per_second: 1, burst: 2 });
    rig.apply(SHORT, OriginLimits { rate, ..OriginLimits::new(8, 500) }, rig.loader.clone());
    rig.text("k").await;
    pass(1_100).await;
    rig.text("x").await;
    rig.text("y").await;
    let answer = rig.read("k").await.expect("stale if error");
    assert_eq!(answer.stale_reason, StaleReason::RateLimited);
    let explanation = rig.cache.explain("g", b"k", &answer);
    assert_eq!((explanation.stale, explanation.stale_reason()), (true, answer.stale_reason));
    let reply = ErrorReply::from(rig.read("z").await.expect_err("no entry"));
    assert_eq!(
        (reply.code, reply.reason.as_str()),
        (Code::ResourceExhausted, "ORIGIN_RATE_LIMITED")
    );
    assert!(reply.retry_after.is_some(), "{reply:?}");
    let counted = rig.cache.report()[0].gets;
    assert_eq!(counted, [0, 0, 0, 3, 1, 1], "three misses, one stale, one error");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_of_a_suspended_origin_says_so() {
    let rig = plain();
    rig.apply_contract(SHORT);
    rig.text("k").await;
    pass(1_100).await;
    rig.set_origin(Behaviour::Fails);
    let reasons = async |key| rig.read(key).await.expect("stale").stale_reason;
    assert_eq!(reasons("k").await, StaleReason::OriginFailed, "its own load failed");
    for key in ["a", "b", "c", "d"] {
        rig.read(key).await.expect_err("planned");
    }
    assert_eq!(reasons("k").await, StaleReason::OriginSuspended);
}
