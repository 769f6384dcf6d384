//! A changed origin: no value of the old one is answered after the change.

use super::*;

/// An origin whose every value is `text`, after the same delay as the rig's own.
fn other_origin(text: &'static str) -> Arc<dyn origin::Loader> {
    Arc::new(origin::from_fn(move |_| async move {
        sleep(Duration::from_millis(20)).await;
        Ok(Loaded::Value(Bytes::from_static(text.as_bytes())))
    }))
}

fn change_origin(rig: &Rig, text: &'static str) {
    rig.apply(FRESHNESS, OriginLimits::new(8, 60_000), other_origin(text));
}

/// Reads until the flights of the old origin have ended.
async fn assert_only_new_values(rig: &Rig) {
    for _ in 0..20 {
        assert_eq!(rig.text("k").await, "new");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_of_the_old_origin_that_starts_after_the_change_is_not_stored() {
    let rig = plain();
    // 1. A load is queued; 2. the origin changes; 3. the load starts, and takes its fence.
    let old = rig.wait("k");
    change_origin(&rig, "new");
    let answer = old.answer(rig.cache.default_deadline()).await.expect("its own load");
    assert_eq!(answer.present().expect("present"), "1");
    assert_only_new_values(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_of_the_old_origin_that_ends_after_the_change_is_not_stored() {
    let rig = plain();
    let old = rig.wait("k");
    sleep(Duration::from_millis(5)).await;
    change_origin(&rig, "new");
    old.answer(rig.cache.default_deadline()).await.expect("its own load");
    assert_only_new_values(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_a_change_of_limits_is_not_stored_after_a_change_of_origin() {
    let rig = plain();
    let old = rig.wait("k");
    rig.apply(FRESHNESS, OriginLimits::new(4, 60_000), rig.loader.clone());
    change_origin(&rig, "new");
    old.answer(rig.cache.default_deadline()).await.expect("its own load");
    assert_only_new_values(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn stored_values_of_the_old_origin_are_not_answered_and_those_of_the_new_one_are_kept() {
    let rig = plain();
    assert_eq!(rig.text("k").await, "1");
    change_origin(&rig, "new");
    assert_only_new_values(&rig).await;
    let answer = rig.read("k").await.expect("a hit");
    assert_eq!(answer.source, Source::Local, "the new origin's loads are stored");
}

#[tokio::test(start_paused = true)]
async fn a_copy_from_a_peer_with_another_origin_is_not_kept() {
    use larder_proto::contract::{HttpOrigin, Origin as Described};
    let described = |host: &str| {
        let url_template = format!("http://{host}/{{key}}");
        OriginSource::Described(Described::Http(HttpOrigin::new(url_template)))
    };
    let rig = plain();
    let apply = |host: &str| {
        let (policy, limits) = (PolicyKind::default(), OriginLimits::new(8, 500));
        let (freshness, guaranteed_bytes, origin) = (FRESHNESS, 0, described(host));
        let plan = GroupPlan { policy, freshness, limits, guaranteed_bytes, origin };
        let loader = rig.loader.clone();
        rig.cache.set_groups(&[("g".to_owned(), plan)].into(), &move |_| Ok(loader.clone()));
        rig.cache.group("g").expect("applied")
    };
    let (old, new) = (apply("old"), apply("new"));
    assert_ne!(old.origin_id, new.origin_id);
    assert_eq!(new.origin_id, apply("new").origin_id);
    let now_ms = rig.cache.0.clock.now_ms();
    let copied = |origin_id: u64| {
        let peers = v1::FetchResult {
            outcome: v1::Outcome::Found.into(),
            value: "value".into(),
            remaining_ms: 900,
            origin_id,
            ..Default::default()
        };
        let answer = Answer::from_peer(&peers).expect("a value");
        let fence = new.begin_load(new.hot.as_ref().expect("copies are kept"));
        rig.cache.store_copy(&new, b"k", &answer, 0, fence);
        new.hot_copy(b"k", now_ms).is_some()
    };
    assert!(!copied(old.origin_id), "the peer has not seen the change yet");
    assert!(copied(new.origin_id));
}

#[tokio::test(start_paused = true)]
async fn a_broken_origin_is_built_again_ever_more_rarely() {
    use larder_proto::contract::{HttpOrigin, Origin as Described};
    let rig = plain();
    let builds = AtomicUsize::new(0);
    let origin = || OriginSource::Described(Described::Http(HttpOrigin::new("http://web/{key}")));
    let (policy, limits) = (PolicyKind::default(), OriginLimits::new(8, 500));
    let (freshness, guaranteed_bytes, origin) = (FRESHNESS, 0, origin());
    let plan = GroupPlan { policy, freshness, limits, guaranteed_bytes, origin };
    let plans = [("g".to_owned(), plan)].into();
    let apply = |fails: bool| {
        rig.cache.set_groups(&plans, &|_| {
            builds.fetch_add(1, Ordering::SeqCst);
            if fails { Err("broken".into()) } else { Ok(rig.loader.clone()) }
        });
    };
    apply(true);
    // As the member does it: every 500 ms, if a group is due.
    for _ in 0..20 * 60 {
        pass(500).await;
        if rig.cache.has_group_to_retry() {
            apply(true);
        }
        apply(true);
    }
    // 1, 2, 4, 8, 16, 32 s, then once a minute, each up to a fifth shorter.
    let count = builds.load(Ordering::SeqCst);
    assert!((15..=21).contains(&count), "{count} builds in ten minutes");
    let error = rig.read("k").await.expect_err("broken");
    assert!(matches!(error, Error::BrokenGroup { .. }), "{error}");
    pass(60_000).await;
    apply(false);
    assert_eq!(rig.text("k").await, "1");
    assert!(!rig.cache.has_group_to_retry());
}
