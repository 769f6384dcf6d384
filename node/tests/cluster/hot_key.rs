//! One key that everybody reads, by clients that know the ring.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use larder_client::{Answer, Client, Explanation, Source};

use super::rig::Cluster;
use crate::GROUP;

const MEMBERS: usize = 4;
const READS: usize = 2_000;
/// The most that one member may answer, as a multiple of the mean.
const MOST: f64 = 1.25;
const LONG: Duration = Duration::from_secs(30);

fn client(cluster: &Cluster) -> Client {
    let members = (0..MEMBERS).map(|member| cluster.addresses(member).grpc.to_string());
    Client::builder().members(members).build().expect("valid")
}

async fn read(client: &Client) -> (String, Explanation) {
    read_key(client, "Tom").await
}

async fn read_key(client: &Client, key: &str) -> (String, Explanation) {
    let answer = client.explain(GROUP, key).await.expect("a value");
    let explanation = answer.explanation().expect("requested").clone();
    let Answer::Found { value, .. } = answer else { panic!("absent") };
    (String::from_utf8(value.to_vec()).expect("text"), explanation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_member_answers_much_more_than_the_others_for_one_hot_key() {
    let cluster = Cluster::start(MEMBERS).await;
    // Many clients, each of which has to learn that the key is hot.
    let clients: Vec<Client> = (0..8).map(|_| client(&cluster)).collect();
    // A key that is not hot has one owner for clients that know the ring.
    let know_the_ring = || async {
        let reads = clients.iter().map(|client| read_key(client, "Ann"));
        let answers = futures::future::join_all(reads).await;
        answers.iter().all(|(_, explanation)| explanation.served_by == explanation.owner)
    };
    cluster.eventually(LONG, know_the_ring).await;
    let is_spread = || async {
        let reads = clients.iter().flat_map(|client| (0..8).map(move |_| read(client)));
        let answers = futures::future::join_all(reads).await;
        let by_owner = answers.iter().filter(|(_, e)| e.served_by == e.owner).count();
        by_owner <= answers.len() / 2
    };
    cluster.eventually(LONG, is_spread).await;

    let reads = (0..READS).map(|number| read(&clients[number % clients.len()]));
    let answers: Vec<_> = stream::iter(reads).buffer_unordered(16).collect().await;
    let mut shares = BTreeMap::<_, usize>::new();
    for (_, explanation) in &answers {
        *shares.entry(explanation.served_by.as_str()).or_default() += 1;
    }
    let most = *shares.values().max().expect("answers");
    println!("answered by: {shares:?}");
    assert!(most as f64 <= MOST * (READS / MEMBERS) as f64, "{shares:?}");
    let copies = answers.iter().filter(|(_, e)| e.source() == Source::Hot).count();
    assert!(copies >= READS / 2, "{copies} answers from hot caches");
    assert_eq!(cluster.origin.loads_of("Tom"), 1);

    let done = clients[0].invalidate(GROUP, ["Tom"]).await.expect("done");
    assert_eq!(done.members_reached, 4);
    for client in &clients {
        for _ in 0..MEMBERS {
            assert_eq!(read(client).await.0, "Tom 2", "no copy outlives the invalidation");
        }
    }
    cluster.stop().await;
}
