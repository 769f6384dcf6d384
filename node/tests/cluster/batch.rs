//! Reads of many keys: calls between members, and calls of an origin that can load several keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use larder_node::origin::{BatchLoader, BatchedLoad, Error, Loaded, Loader};
use larder_proto::v1::{GetManyRequest, Outcome};

use super::rig::{Cluster, Origin};

/// The group whose origin is [`Batched`].
pub(super) const GROUP: &str = "batched";
const FETCHES: &str = "grpc_server_started_total{grpc_method=\"Fetch\",\
                       grpc_service=\"larder.v1.Peer\"}";

/// The origin of the cluster, with a form for several keys. Counts calls of both forms.
pub(super) struct Batched(pub(super) Arc<Origin>);

impl Loader for Batched {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        self.0.clone().load(Bytes::copy_from_slice(key)).boxed()
    }

    fn batch(&self) -> Option<&dyn BatchLoader> {
        Some(self)
    }
}

impl BatchLoader for Batched {
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, Error>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let loads = join_all(keys.iter().map(|key| self.0.clone().load(key.clone())));
        loads.map(|loads| loads.into_iter().map(|l| l.map(BatchedLoad::Done)).collect()).boxed()
    }
}

/// Calls from peers so far, at all members.
async fn fetches(cluster: &Cluster) -> f64 {
    let counts = (0..3).map(|member| cluster.metric(member, FETCHES));
    join_all(counts).await.into_iter().map(|count| count.expect("there")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_a_hundred_keys_takes_one_call_per_other_owner_and_one_of_the_origin_at_each() {
    let cluster = Cluster::start(3).await;
    // Slower than the time that a batch of several readers gives an owner for a load.
    for (round, delay_ms) in [0, 100].into_iter().enumerate() {
        cluster.origin.delay_ms.store(delay_ms, Ordering::SeqCst);
        let keys: Vec<_> = (0..100).map(|n| Bytes::from(format!("{round} {n}"))).collect();
        let request = GetManyRequest { group: GROUP.into(), keys: keys.clone(), explain: false };
        let (calls, before) =
            (cluster.origin.calls.load(Ordering::SeqCst), fetches(&cluster).await);
        for _ in 0..2 {
            let response = cluster.client(round).get_many(request.clone()).await.expect("answers");
            for (key, result) in keys.iter().zip(response.into_inner().results) {
                assert_eq!(result.outcome(), Outcome::Found, "{result:?}");
                assert_eq!(result.value, [&key[..], b" 1"].concat(), "loaded once");
            }
        }
        let calls = cluster.origin.calls.load(Ordering::SeqCst) - calls;
        let fetches = fetches(&cluster).await - before;
        println!("100 keys of 3 owners: {fetches} peer calls, {calls} origin calls");
        assert_eq!(calls, 3, "one at each owner");
        assert!(fetches <= 3.0, "{fetches} peer calls");
    }
    cluster.stop().await;
}
