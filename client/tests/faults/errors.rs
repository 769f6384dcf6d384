//! What an error says: which member, group and reason, and what to do.

use std::time::Duration;

use larder_client::{Error, Failure, Retry};

use crate::lab::{Lab, Mode, address};
use crate::{ms, timed, value};

#[tokio::test(start_paused = true)]
async fn an_origin_failure_names_the_origin_even_if_another_member_is_unreachable() {
    let lab = Lab::with_members(2);
    for (unreachable, failing) in [(0, 1), (1, 0)] {
        lab.set(unreachable, Mode::Refuse);
        lab.set(failing, Mode::OriginFails);
        let client = lab.builder().retry(Retry::never()).build().expect("valid");
        let error = client.get("students", "Tom").await.expect_err("the origin fails");
        assert_eq!((error.kind(), error.reason()), ("origin", Some("ORIGIN_UNREACHABLE")));
        let Error::Origin { group, answer } = &error else { panic!("{error:?}") };
        assert_eq!((&**group, &*answer.address), ("students", &*address(failing)));
        let expected = format!(
            "the origin of group \"students\" failed: no connection to db:5432 \
             (reported by member {})",
            address(failing)
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_failure_is_final() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::OriginFails));
    let client = lab.builder().build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    let error = ended.expect_err("the origin fails");
    assert_eq!((error.kind(), error.reason()), ("origin", Some("ORIGIN_UNREACHABLE")));
    assert_eq!((client.stats().tries, took), (1, Duration::ZERO));
    let explained = client.explain("students", "Tom").await.expect_err("the origin fails");
    assert_eq!((explained.kind(), client.stats().tries), ("origin", 2));
}

#[tokio::test(start_paused = true)]
async fn an_answer_survives_the_deadline() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Unavailable);
    let client = lab.builder().build().expect("valid");
    let (ended, _) = timed(client.with_timeout(ms(1500)).get("students", "Tom")).await;
    let error = ended.expect_err("draining");
    assert_eq!(error.kind(), "deadline_exceeded");
    assert_eq!(error.answer().expect("of the first round").message, "draining");
}

#[tokio::test(start_paused = true)]
async fn a_draining_member_is_reported_as_an_answer_not_as_a_network_failure() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Unavailable);
    let client = lab.builder().retry(Retry::never()).build().expect("valid");
    let error = client.get("students", "Tom").await.expect_err("draining");
    assert_eq!(error.to_string(), "no member could serve the call in 1 try");
    let Error::Unavailable { last, .. } = error else { panic!("{error:?}") };
    assert_eq!(last.to_string(), format!("member {} answered: draining", address(0)));
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_not_retried_and_carries_the_members_words() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::BadKey));
    let client = lab.builder().build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    let error = ended.expect_err("the key is too long");
    assert_eq!((error.kind(), error.reason()), ("invalid_request", Some("KEY_TOO_LONG")));
    assert_eq!(error.to_string(), "invalid request: the key is too long");
    assert_eq!((client.stats().tries, took), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_overload_carries_its_reason() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Overloaded(40));
    let client = lab.builder().retry(Retry::never()).build().expect("valid");
    let error = client.get("students", "Tom").await.expect_err("overloaded");
    assert_eq!((error.reason(), error.retry_after()), (Some("MEMBER_OVERLOADED"), Some(ms(40))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_speak_grpc_is_named_with_the_port_to_use_and_not_retried() {
    let advice = "use a member's gRPC port, 7600 by default; 7680 is HTTP and 7690 metrics";
    for (mode, problem) in [
        (Mode::Web(404), "it answered HTTP 404"),
        (Mode::Web(200), "it answered HTTP 200"),
        (Mode::Http1, "its first bytes are \"HTTP/1.1 400 Bad Request\", not HTTP/2"),
    ] {
        let lab = Lab::with_members(1);
        lab.set(0, mode);
        let client = lab.builder().build().expect("valid");
        let (ended, took) = timed(client.get("students", "Tom")).await;
        let error = ended.expect_err("no gRPC");
        assert_eq!((took, client.stats().tries), (Duration::ZERO, 1), "{mode:?}");
        let Error::Unavailable { last, .. } = error else { panic!("{error:?}") };
        let expected = format!("{} does not speak gRPC ({problem}): {advice}", address(0));
        assert_eq!(last.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_a_member_is_retried() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Web(503));
    let client = lab.builder().build().expect("valid");
    let (ended, _) = timed(client.get("students", "Tom")).await;
    let Err(Error::Unavailable { tries, last }) = ended else { panic!("{ended:?}") };
    assert_eq!(tries, 4, "four rounds");
    let text = format!("{} cannot be reached: a proxy answered HTTP 503 in its place", address(0));
    assert_eq!(last.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn other_members_are_tried_when_one_server_does_not_speak_grpc() {
    let lab = Lab::with_members(2);
    lab.set(0, Mode::Web(404));
    let client = lab.builder().build().expect("valid");
    for _ in 0..4 {
        let (ended, took) = timed(client.get("students", "Tom")).await;
        assert_eq!((value(ended).as_str(), took), ("value of Tom", Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn the_http2_handshake_has_a_time_limit_of_its_own() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Mute);
    let builder = lab.builder().try_timeout(ms(60_000)).timeout(ms(90_000));
    let client = builder.retry(Retry::never()).build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert!(took >= ms(2000) && took < ms(2010), "{took:?}");
    let Err(Error::Unavailable { last, .. }) = ended else { panic!("{ended:?}") };
    assert!(matches!(last, Failure::Connection { .. }), "{last:?}");
    let text = format!("{} cannot be reached: no HTTP/2 handshake within 2000 ms", address(0));
    assert_eq!(last.to_string(), text);

    // The member is not left in its handshake for ever.
    lab.set(0, Mode::Serve);
    let (ended, _) = timed(client.get("students", "Tom")).await;
    assert_eq!(value(ended), "value of Tom");
}
