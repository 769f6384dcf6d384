//! The client's guarantees while members refuse, hang and recover.

mod errors;
mod lab;
mod spread;

use std::time::Duration;

use larder_client::{Answer, Client, Error, Retry};
use tokio::time::Instant;

use crate::lab::{Lab, Mode, address, within_an_hour};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A call's result and how long it took.
async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = within_an_hour(call).await;
    (result, start.elapsed())
}

fn value(answer: Result<Answer, Error>) -> String {
    let answer = answer.expect("an answer");
    String::from_utf8_lossy(answer.value().expect("a value")).into_owned()
}

/// Runs the spawned tasks that are ready, while the clock does not move.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A client that knows the ring.
async fn with_ring(client: &Client) {
    client.get("students", "warm-up").await.expect("a member serves");
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn rounds_are_one_two_and_four_seconds_apart() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::Refuse));
    let client = lab.builder().build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert!(took >= ms(7000) && took < ms(7050), "{took:?}");
    assert_eq!(client.stats().tries, 12, "four rounds of three members");
    let error = ended.expect_err("all refuse");
    assert_eq!(error.kind(), "unavailable");
    assert_eq!(error.to_string(), "no member answered in 12 tries");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_continues_as_soon_as_any_member_answers() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::Refuse));
    let client = lab.builder().build().expect("valid");
    let back = lab.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(1300)).await;
        back.set(1, Mode::Serve);
    });
    // The third round is due at 3 s.
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!(value(ended), "value of Tom");
    assert!(took >= ms(1300) && took < ms(1600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_refused_connection_the_next_member_is_tried_at_once() {
    let lab = Lab::with_members(3);
    lab.set(0, Mode::Refuse);
    lab.set(1, Mode::Refuse);
    let client = lab.builder().build().expect("valid");
    for _ in 0..6 {
        let (ended, took) = timed(client.get("students", "Tom")).await;
        assert_eq!(value(ended), "value of Tom");
        assert_eq!(took, Duration::ZERO);
    }
    assert_eq!(lab.received(2).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn after_a_connection_breaks_under_a_call_another_member_is_tried() {
    let lab = Lab::with_members(2);
    let client = lab.builder().try_timeout(ms(60_000)).timeout(ms(90_000)).build().expect("valid");
    with_ring(&client).await;
    lab.set(0, Mode::Hang);
    lab.set(1, Mode::Hang);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get("students", "Tom").await }
    });
    settle().await;
    let hung = if lab.received(0).iter().flatten().any(|k| k == "Tom") { 0 } else { 1 };
    lab.set(1 - hung, Mode::Serve);
    lab.set(hung, Mode::Refuse);
    let (ended, took) = timed(call).await;
    assert_eq!(value(ended.expect("no panic")), "value of Tom");
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_member_delays_one_call_and_no_later_one() {
    let lab = Lab::with_members(2);
    lab.set(0, Mode::Hang);
    let client = lab.builder().build().expect("valid");
    let (_, first) = timed(client.get("students", "Tom")).await;
    let (_, second) = timed(client.get("students", "Tom")).await;
    let slowest = first.max(second);
    assert!(slowest >= ms(500) && slowest <= ms(2000), "{slowest:?}");
    for _ in 0..10 {
        let (ended, took) = timed(client.get("students", "Tom")).await;
        assert_eq!((value(ended).as_str(), took), ("value of Tom", Duration::ZERO));
    }
    // Probes detect its recovery; no call has to.
    lab.set(0, Mode::Serve);
    let before = lab.received(0).len();
    tokio::time::sleep(ms(10_000)).await;
    for _ in 0..4 {
        client.get("students", "Tom").await.expect("a hit");
    }
    assert!(lab.received(0).len() > before, "its turn comes again");
}

/// The members that were asked for a key.
fn asked(lab: &Lab, key: &str) -> Vec<u8> {
    let received = |i: u8| lab.received(i).into_iter().flatten().filter(|k| k == key).count();
    (0..lab.count()).flat_map(|i| std::iter::repeat_n(i, received(i))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_is_asked_of_one_member_which_stays_in_use() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    let slow = tokio::spawn({
        let client = client.clone();
        async move { timed(client.get("students", "slow")).await }
    });
    settle().await;
    let [owner] = asked(&lab, "slow")[..] else { panic!("{:?}", asked(&lab, "slow")) };
    for second in 0..9 {
        let before = lab.received(owner).len();
        for i in 0..30 {
            let (ended, took) = timed(client.get("students", format!("key-{i}"))).await;
            ended.expect("a hit");
            assert_eq!(took, Duration::ZERO, "second {second}");
        }
        assert!(lab.received(owner).len() > before + 3, "second {second}: its share");
        tokio::time::sleep(ms(1000)).await;
    }
    let (ended, took) = slow.await.expect("no panic");
    assert_eq!(ended.expect_err("never answered").kind(), "deadline_exceeded");
    assert!(took >= ms(10_000) && took < ms(10_010), "{took:?}");
    assert_eq!(asked(&lab, "slow"), [owner], "no other member was asked");
    assert!(client.stats().failed_tries <= 1, "the server may see the deadline first");
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_find_out_that_a_member_hangs() {
    let lab = Lab::with_members(2);
    let client = lab.builder().timeout(ms(200)).build().expect("valid");
    with_ring(&client).await;
    lab.set(0, Mode::Hang);
    for i in 0..20 {
        _ = client.get("students", format!("key-{i}")).await;
    }
    tokio::time::sleep(ms(500)).await;
    for i in 0..20 {
        let (ended, took) = timed(client.get("students", format!("key-{i}"))).await;
        ended.expect("the other member answers");
        assert_eq!(took, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_budget() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::Unavailable));
    let client = lab.builder().max_in_flight(5_000).build().expect("valid");
    let calls = (0..3_000).map(|i| client.get("students", format!("key-{i}")));
    for ended in futures::future::join_all(calls).await {
        assert_eq!(ended.expect_err("all are unavailable").kind(), "unavailable");
    }
    // A tenth of the calls, the first balance, and ten a second for seven seconds of back-off.
    let retries = client.stats().tries - 3_000;
    assert!((100..=300 + 100 + 70).contains(&retries), "{retries}");
    assert!(client.stats().denied_retries > 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_dead_member_costs_no_retry_budget() {
    let lab = Lab::with_members(2);
    lab.set(0, Mode::Refuse);
    let client = lab.builder().max_in_flight(5_000).build().expect("valid");
    let calls = (0..3_000).map(|i| client.get("students", format!("key-{i}")));
    for ended in futures::future::join_all(calls).await {
        ended.expect("the other member answers");
    }
    assert_eq!(client.stats().denied_retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_costs_no_retry_budget_while_another_one_answers() {
    let lab = Lab::with_members(2);
    let client = lab.builder().max_in_flight(5_000).build().expect("valid");
    with_ring(&client).await;
    lab.set(0, Mode::Hang);
    let calls = (0..3_000).map(|i| client.get("students", format!("key-{i}")));
    for ended in futures::future::join_all(calls).await {
        ended.expect("the other member answers");
    }
    assert_eq!(client.stats().denied_retries, 0);
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_budget_when_every_member_is_silent() {
    let lab = Lab::with_members(3);
    let client = lab.builder().max_in_flight(5_000).build().expect("valid");
    with_ring(&client).await;
    (0..3).for_each(|i| lab.set(i, Mode::Hang));
    let calls = (0..3_000).map(|i| client.get("students", format!("key-{i}")));
    for ended in futures::future::join_all(calls).await {
        ended.expect_err("nobody answers");
    }
    let retries = client.stats().tries - 3_000;
    assert!(retries <= 300 + 100 + 100, "{retries}");
}

#[tokio::test(start_paused = true)]
async fn keys_that_did_not_fit_in_a_response_are_asked_again() {
    let lab = Lab::with_members(1);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    let before = lab.requests();
    let keys = ["large-1", "large-2", "Tom", "large-3", "huge", "large-4", "large-5"];
    let answers = client.get_many("students", keys).await;
    for (key, answer) in keys.into_iter().zip(answers) {
        if key == "huge" {
            let error = answer.expect_err("it never fits");
            assert_eq!((error.kind(), error.reason()), ("overloaded", Some("RESPONSE_FULL")));
        } else {
            assert_eq!(value(answer), format!("value of {key}"));
        }
    }
    assert_eq!(lab.requests() - before, 4, "two large keys each, then one request in vain");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_when_every_member_hangs() {
    let lab = Lab::with_members(3);
    (0..3).for_each(|i| lab.set(i, Mode::Hang));
    let client = lab.builder().timeout(ms(3500)).build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert!(took >= ms(3500) && took < ms(3510), "{took:?}");
    let error = ended.expect_err("all hang");
    assert_eq!(error.to_string(), "no answer within 3500 ms");
    let (ended, took) = timed(client.with_timeout(ms(200)).get_many("students", ["a"])).await;
    assert!(took >= ms(200) && took < ms(210), "{took:?}");
    assert_eq!(ended[0].as_ref().expect_err("all hang").kind(), "deadline_exceeded");
}

#[tokio::test(start_paused = true)]
async fn final_answers_are_not_retried() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    let absent = client.get("students", "Nobody").await.expect("an answer");
    assert_eq!(absent.value(), None);
    let error = client.get("teachers", "Tom").await.expect_err("no such group");
    assert_eq!(error.kind(), "unknown_group");
    assert_eq!(client.stats().tries, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_answer_is_not_sought_from_every_member() {
    let lab = Lab::with_members(5);
    (0..5).for_each(|i| lab.set(i, Mode::Unavailable));
    let client = lab.builder().build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!(ended.expect_err("draining").kind(), "unavailable");
    assert_eq!(lab.requests(), 8, "two a round");
    assert!(took >= ms(7000), "{took:?}: members that answer do not shorten the back-off");
}

#[tokio::test(start_paused = true)]
async fn after_a_draining_member_the_next_one_is_tried_at_once() {
    let lab = Lab::with_members(2);
    lab.set(0, Mode::Unavailable);
    let client = lab.builder().build().expect("valid");
    for _ in 0..4 {
        let (ended, took) = timed(client.get("students", "Tom")).await;
        assert_eq!((value(ended).as_str(), took), ("value of Tom", Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_member_is_retried_after_its_pushback() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Overloaded(40));
    let client = lab.builder().build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert!(took >= ms(120) && took < ms(130), "{took:?}");
    let error = ended.expect_err("overloaded");
    assert_eq!((error.kind(), error.retry_after()), ("overloaded", Some(ms(40))));
}

#[tokio::test(start_paused = true)]
async fn without_retries_there_is_one_round() {
    let lab = Lab::with_members(2);
    (0..2).for_each(|i| lab.set(i, Mode::Refuse));
    let client = lab.builder().retry(Retry::never()).build().expect("valid");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!(ended.expect_err("all refuse").to_string(), "no member answered in 2 tries");
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_resolved_again_when_its_addresses_are_down() {
    let lab = Lab::with_members(2);
    lab.set_name("shop", [0]);
    lab.set(0, Mode::Refuse);
    let client = lab.builder_for(["shop:7600".into()]).build().expect("valid");
    let moved = lab.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ms(1200)).await;
        moved.set_name("shop", [1]);
    });
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!(value(ended), "value of Tom");
    assert!(took >= ms(1200) && took < ms(3000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_is_in_the_error() {
    let lab = Lab::with_members(1);
    let client = lab.builder_for(["shop:7600".into()]).build().expect("valid");
    let (ended, _) = timed(client.get("students", "Tom")).await;
    let error = ended.expect_err("no address");
    assert_eq!(error.to_string(), "no member answered, since none is known");
    let Error::Unavailable { last, .. } = error else { panic!("{error:?}") };
    assert_eq!(last.to_string(), "shop has no address: no such name");
}

#[tokio::test(start_paused = true)]
async fn keys_go_to_their_owner_and_follow_a_new_ring() {
    let lab = Lab::with_members(3);
    lab.set_ring(1, 0..2);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    let keys: Vec<String> = (0..60).map(|i| format!("key-{i}")).collect();
    let owners = |lab: &Lab| -> Vec<Vec<String>> {
        (0..3)
            .map(|i| lab.received(i).into_iter().flatten().filter(|k| k != "warm-up").collect())
            .collect()
    };
    for _ in 0..2 {
        for key in &keys {
            client.get("students", key).await.expect("a hit");
        }
    }
    let before = owners(&lab);
    for owned in &before[..2] {
        assert!(owned.len() >= 20, "each owns a share: {}", owned.len());
        assert_eq!(owned[..owned.len() / 2], owned[owned.len() / 2..], "the same keys each time");
    }
    assert!(before[2].is_empty(), "not in the ring");

    // The ring grows. An answer shows its revision; the client fetches it and uses the new owner.
    lab.set_ring(2, 0..3);
    client.explain("students", "warm-up").await.expect("a hit");
    settle().await;
    for key in &keys {
        client.get("students", key).await.expect("a hit");
    }
    let moved = owners(&lab)[2].len();
    assert!((8..=35).contains(&moved), "about a third moved, and only to the new member: {moved}");
}

#[tokio::test(start_paused = true)]
async fn while_the_owner_is_down_another_member_serves_its_keys() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    client.get("students", "Tom").await.expect("a hit");
    let owner =
        (0..3).find(|i| lab.received(*i).iter().flatten().any(|k| k == "Tom")).expect("one");
    lab.set(owner, Mode::Refuse);
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!((value(ended).as_str(), took), ("value of Tom", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_a_connection_to_a_vanished_member() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    for round in 0..3 {
        lab.set(1, Mode::Vanished);
        let reads = (0..100).map(|i| timed(client.get("students", format!("key-{i}"))));
        for (ended, took) in futures::future::join_all(reads).await {
            assert_eq!(took, Duration::ZERO, "round {round}");
            ended.expect("the others answer");
        }
        // It is back, and its keys return to it.
        lab.set(1, Mode::Serve);
        tokio::time::sleep(ms(10_000)).await;
        let before = lab.received(1).len();
        for i in 0..100 {
            client.get("students", format!("key-{i}")).await.expect("a hit");
        }
        assert!(lab.received(1).len() > before + 10, "its share");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_left_is_not_tried_after_its_connection_ended() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    lab.set_ring(2, 0..2);
    lab.set(2, Mode::Vanished);
    for i in 0..20 {
        client.get("students", format!("key-{i}")).await.expect("the others answer");
    }
    settle().await;
    let failed = client.stats().failed_tries;
    tokio::time::sleep(ms(5000)).await;
    for i in 0..100 {
        client.get("students", format!("key-{i}")).await.expect("the others answer");
    }
    assert_eq!(client.stats().failed_tries, failed, "no call tries it any more");
}

#[tokio::test(start_paused = true)]
async fn a_batch_makes_at_most_one_request_per_owner_and_keeps_its_order() {
    let lab = Lab::with_members(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    let before = lab.requests();
    let mut keys: Vec<String> = (0..99).map(|i| format!("key-{i}")).collect();
    keys.push("Nobody".into());
    let answers = client.get_many("students", &keys).await;
    assert_eq!(lab.requests() - before, 3);
    for (key, answer) in keys.iter().zip(answers) {
        let answer = answer.expect("an answer");
        let expected = (key != "Nobody").then(|| format!("value of {key}").into());
        assert_eq!(answer.value(), expected.as_ref());
    }
}

#[tokio::test(start_paused = true)]
async fn the_near_cache_answers_without_a_call_until_the_answer_expires() {
    let lab = Lab::with_members(1);
    lab.set_remaining_ms(400);
    let client = lab.builder().near_cache(1 << 20, ms(1000)).build().expect("valid");
    for key in ["Tom", "Nobody"] {
        let first = client.get("students", key).await.expect("an answer");
        assert_eq!(client.get("students", key).await.expect("a copy"), first);
    }
    assert_eq!(lab.requests(), 2);
    assert_eq!(client.get_many("students", ["Nobody", "Tom"]).await.len(), 2);
    assert_eq!(lab.requests(), 2, "batches read it too");

    tokio::time::advance(ms(400)).await;
    client.get("students", "Tom").await.expect("a hit");
    assert_eq!(lab.requests(), 3);
    client.invalidate("students", ["Tom"]).await.expect("confirmed");
    client.get("students", "Tom").await.expect("a hit");
    assert_eq!(lab.requests(), 4, "an invalidation is seen at once");
    let tags: [&str; 0] = [];
    client.invalidate_tags("students", tags).await.expect("nothing to drop");
    client.get("students", "Tom").await.expect("a copy");
    assert_eq!(lab.requests(), 4, "no tag drops nothing");
    client.invalidate_tags("students", ["course:7"]).await.expect("confirmed");
    client.get("students", "Tom").await.expect("a hit");
    assert_eq!(lab.requests(), 5, "the copy may have had the tag");
    assert_eq!(client.stats().near_hits, 5);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_and_its_queue_fail_at_once() {
    let lab = Lab::with_members(1);
    lab.set(0, Mode::Hang);
    let client = lab.builder().max_in_flight(2).build().expect("valid");
    for _ in 0..4 {
        let client = client.clone();
        tokio::spawn(async move { client.get("students", "Tom").await });
    }
    settle().await;
    assert_eq!(lab.requests(), 2, "two in flight, two wait");
    let (ended, took) = timed(client.get("students", "Tom")).await;
    assert_eq!((ended.expect_err("full").kind(), took), ("busy", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn status_lists_every_member_also_those_that_do_not_answer() {
    let lab = Lab::with_members(3);
    lab.set(1, Mode::Refuse);
    let client = lab.builder_for([address(0)]).build().expect("valid");
    let answers = client.status().await.expect("members are known");
    let names: Vec<_> =
        answers.iter().map(|m| m.answer.as_ref().ok().map(|s| &*s.member)).collect();
    assert_eq!(names, [Some("m0"), None, Some("m2")], "one endpoint led to all");
}

#[tokio::test(start_paused = true)]
async fn no_task_runs_while_no_call_is_made() {
    let lab = Lab::with_members(2);
    let client = lab.builder().build().expect("valid");
    lab.set(1, Mode::Refuse);
    for _ in 0..4 {
        client.get("students", "Tom").await.expect("a hit");
    }
    drop(client);
    tokio::time::sleep(ms(60_000)).await;
    let handle = tokio::runtime::Handle::current();
    let before = handle.metrics().num_alive_tasks();
    tokio::time::sleep(ms(600_000)).await;
    assert!(handle.metrics().num_alive_tasks() <= before);
    // Two servers, at most one connection with its wire: no probe, no refresh.
    assert!(before <= 8, "{before}");
}
