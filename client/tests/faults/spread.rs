//! Which member a client asks when any member may answer.

use std::time::Duration;

use larder_client::{Balance, Client};

use crate::lab::{Lab, Mode};
use crate::{settle, value, with_ring};

/// How many times each member was asked for `key`.
fn reads(lab: &Lab, key: &str) -> Vec<usize> {
    let count = |i| lab.received(i).iter().flatten().filter(|read| *read == key).count();
    (0..lab.count()).map(count).collect()
}

async fn read(client: &Client, key: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(value(client.get("students", key).await), format!("value of {key}"));
    }
}

/// A lab whose members ask to spread keys that begin with "hot" for five seconds.
fn lab(members: u8) -> Lab {
    let lab = Lab::with_members(members);
    lab.set_spread_ms(5_000);
    lab
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_hot_key_are_spread_while_its_owner_asks_for_it() {
    let lab = lab(4);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    read(&client, "hot", 401).await;
    let spread = reads(&lab, "hot");
    assert!(spread.iter().all(|count| (90..=110).contains(count)), "{spread:?}");
    read(&client, "cold", 100).await;
    assert_eq!(reads(&lab, "cold").iter().max(), Some(&100), "a cold key has one owner");

    lab.set_spread_ms(0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = reads(&lab, "hot");
    read(&client, "hot", 100).await;
    let after = reads(&lab, "hot");
    let more = after.iter().zip(before).map(|(after, before)| after - before);
    assert_eq!(more.max(), Some(100), "its owner alone");
}

#[tokio::test(start_paused = true)]
async fn hot_keys_of_a_batch_join_the_requests_that_are_sent_anyway() {
    let lab = lab(3);
    let client = lab.builder().build().expect("valid");
    with_ring(&client).await;
    let keys = ["hot", "a", "b", "c", "d", "e", "f", "g"];
    let read = async || {
        for answer in client.get_many("students", keys).await {
            answer.expect("an answer");
        }
    };
    read().await;
    let before = lab.requests();
    for _ in 0..30 {
        read().await;
    }
    assert_eq!(lab.requests() - before, 3 * 30, "one request for each owner");
    let spread = reads(&lab, "hot");
    assert!(spread.iter().all(|count| *count >= 10), "{spread:?}");
    let before = lab.requests();
    client.get_many("students", ["hot"]).await.swap_remove(0).expect("an answer");
    assert_eq!(lab.requests() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_hot_key_stay_in_the_zone_of_their_reader() {
    let lab = lab(4);
    lab.set_zones(&["a", "b", "a", "b"]);
    let client = lab.builder().zone("b").build().expect("valid");
    with_ring(&client).await;
    read(&client, "hot", 1).await;
    let first = reads(&lab, "hot");
    read(&client, "hot", 100).await;
    let spread: Vec<_> = reads(&lab, "hot").iter().zip(first).map(|(all, one)| all - one).collect();
    assert_eq!(spread, [0, 50, 0, 50]);

    // Another zone is better than none.
    lab.set(1, Mode::Refuse);
    lab.set(3, Mode::Refuse);
    read(&client, "hot", 100).await;
    let spread = reads(&lab, "hot");
    assert!(spread[0] + spread[2] >= 100, "{spread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_the_ring_asks_members_in_turn_or_the_least_loaded() {
    for (balance, stuck_share) in [(Balance::RoundRobin, 20..=40), (Balance::LeastLoaded, 1..=6)] {
        let lab = Lab::with_members(3);
        let client = lab.builder().follow_ring(false).balance(balance).build().expect("valid");
        // Connects to every member.
        read(&client, "warm-up", 12).await;
        settle().await;
        lab.set(1, Mode::Hang);
        let mut calls = Vec::new();
        for _ in 0..90 {
            let client = client.clone();
            calls.push(tokio::spawn(async move { client.get("students", "Tom").await }));
            // Calls to the other members end before the next one begins.
            settle().await;
        }
        let stuck = reads(&lab, "Tom")[1];
        assert!(stuck_share.contains(&stuck), "{balance:?}: {stuck}");
        for call in calls {
            call.await.expect("no panic").expect("another member answers");
        }
    }
}
