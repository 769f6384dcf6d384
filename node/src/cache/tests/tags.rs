//! Invalidation by tag at one member.

use larder_engine::Tags;
use larder_proto::names::{MAX_TAG_BYTES, MAX_TAGS};

use super::*;
use crate::origin::TagError;
use crate::status::ErrorReply;

/// A member whose values have the parts of their key after the first `/` as tags.
fn tagged() -> Rig {
    let rig = plain();
    let origin = rig.origin.clone();
    let loader = origin::from_fn(move |key: Bytes| {
        let loading = load(origin.clone());
        async move {
            let Loaded::Value(value) = loading.await? else { return Ok(Loaded::Absent) };
            let tags = key.split(|byte| *byte == b'/').skip(1).map(Bytes::copy_from_slice);
            Ok(Loaded::Tagged { value, tags: tags.collect() })
        }
    });
    rig.apply(FRESHNESS, OriginLimits::new(8, 60_000), Arc::new(loader));
    rig
}

fn scope(keys: &[&str], tags: &[&str]) -> Scope {
    let bytes = |texts: &[&str]| texts.iter().map(|text| Bytes::from(text.to_string())).collect();
    Scope { keys: bytes(keys), tags: bytes(tags) }
}

impl Rig {
    async fn invalidate(&self, keys: &[&str], tags: &[&str]) {
        self.cache.invalidate("g", scope(keys, tags)).await.expect("valid");
    }

    async fn texts(&self, keys: &[&str]) -> Vec<String> {
        let mut texts = Vec::new();
        for key in keys {
            texts.push(self.text(key).await);
        }
        texts
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_tag_drops_the_values_that_have_it_and_no_other() {
    let rig = tagged();
    let keys = ["a/red", "b/blue", "c/blue/red", "d"];
    assert_eq!(rig.texts(&keys).await, ["1", "2", "3", "4"]);
    rig.invalidate(&[], &["red"]).await;
    assert_eq!(rig.texts(&keys).await, ["5", "2", "6", "4"]);
    rig.invalidate(&["d"], &["blue", "unused"]).await;
    assert_eq!(rig.texts(&keys).await, ["5", "7", "8", "9"]);
    rig.invalidate(&[], &[]).await;
    assert_eq!(rig.texts(&keys).await, ["10", "11", "12", "13"], "the whole group");
}

#[tokio::test(start_paused = true)]
async fn a_load_in_flight_when_its_tag_is_invalidated_is_neither_stored_nor_joined() {
    let rig = tagged();
    // 1. A load starts; 2. a tag that its value will have is invalidated; 3. another read starts;
    // 4. the load ends.
    let old = rig.wait("k/red");
    sleep(Duration::from_millis(5)).await;
    rig.invalidate(&[], &["red"]).await;
    assert_eq!(rig.text("k/red").await, "2", "the read started after the invalidation");
    let answer = old.answer(rig.cache.default_deadline()).await.expect("its own load");
    assert_eq!(answer.present().expect("present"), "1");
    assert_eq!(rig.text("k/red").await, "2", "the old load was not stored");
    assert_eq!(rig.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_flight_when_its_tag_is_invalidated_is_not_stored_without_another_read() {
    let rig = tagged();
    let (red, blue) = (rig.wait("k/red"), rig.wait("k/blue"));
    sleep(Duration::from_millis(5)).await;
    rig.invalidate(&[], &["red"]).await;
    for wait in [red, blue] {
        wait.answer(rig.cache.default_deadline()).await.expect("its own load");
    }
    assert_eq!(rig.loads(), 2);
    rig.texts(&["k/red", "k/blue"]).await;
    assert_eq!(rig.loads(), 3, "only the load without the tag was stored");
}

#[tokio::test(start_paused = true)]
async fn a_value_with_an_invalidated_tag_is_not_answered_in_place_of_an_error() {
    let rig = tagged();
    rig.texts(&["a/red", "b/blue"]).await;
    pass(1_600).await;
    rig.invalidate(&[], &["red"]).await;
    rig.set_origin(Behaviour::Fails);
    assert!(rig.read("b/blue").await.expect("stale if error").is_stale());
    rig.read("a/red").await.expect_err("planned");
}

#[tokio::test(start_paused = true)]
async fn invalid_tags_are_refused_and_drop_nothing() {
    let rig = tagged();
    rig.text("k/red").await;
    let (long, many) = ("t".repeat(MAX_TAG_BYTES + 1), vec!["red"; MAX_TAGS + 1]);
    for (tags, problem, reason) in [
        (&["red", ""][..], TagError::Empty, "EMPTY_TAG"),
        (&["red", &long], TagError::TooLong { bytes: 129 }, "TAG_TOO_LONG"),
        (&many, TagError::TooMany { tags: 65 }, "TOO_MANY_TAGS"),
    ] {
        let error = rig.cache.invalidate("g", scope(&[], tags)).await.expect_err("invalid");
        assert!(matches!(error, Error::Tags(found) if found == problem), "{error}");
        let reply = ErrorReply::from(error);
        assert_eq!((reply.code, reply.reason.as_str()), (Code::InvalidArgument, reason));
    }
    rig.text("k/red").await;
    assert_eq!(rig.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_with_invalid_tags_fails_its_key_and_affects_no_other() {
    let rig = tagged();
    for _ in 0..10 {
        let reply = ErrorReply::from(rig.read("k/red/").await.expect_err("an empty tag"));
        assert_eq!((reply.code, reply.reason.as_str()), (Code::Unavailable, "ORIGIN_TAGS"));
        let text = "the origin of group \"g\" failed: the tags of the value are invalid: a tag is";
        assert!(reply.message.starts_with(text), "{}", reply.message);
        pass(1_000).await;
    }
    rig.read("k/red").await.expect("the origin works");
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_another_members_value_is_dropped_by_its_tag() {
    let rig = tagged();
    let group = rig.cache.group("g").expect("applied");
    let now_ms = rig.cache.0.clock.now_ms();
    let tags = Tags::from_iter(["red", "blue"]);
    let peers = v1::FetchResult {
        outcome: v1::Outcome::Found.into(),
        value: "value".into(),
        remaining_ms: 900,
        tag_slots: tags.slots().iter().copied().map(u32::from).collect(),
        ..Default::default()
    };
    let answer = Answer::from_peer(&peers).expect("a value");
    let fence = || group.begin_load(group.hot.as_ref().expect("copies are kept"));
    let is_kept = || group.hot_copy(b"k", now_ms).is_some();
    rig.cache.store_copy(&group, b"k", &answer, 0, fence());
    rig.invalidate(&[], &["green"]).await;
    assert!(is_kept());
    let before = fence();
    rig.invalidate(&[], &["red"]).await;
    assert!(!is_kept());
    rig.cache.store_copy(&group, b"k", &answer, 0, before);
    assert!(!is_kept(), "the owner was asked before the invalidation");
    rig.cache.store_copy(&group, b"k", &answer, 0, fence());
    assert!(is_kept());
}
