//! Clusters in which a test decides what each member sees of the others: members with registries of
//! their own, and broken links.

use std::net::SocketAddr;
use std::time::Duration;

use larder_node::membership::LEAVING;
use larder_proto::registry::{Metadata, Registration};
use larder_proto::v1::RingRequest;
use larder_proto::v1::admin_client::AdminClient;

use super::links::Fault;
use super::rig::{CAPACITY_BYTES, Cluster, Origin, eventually};

/// Weight of a member in the ring: its memory in MiB.
const WEIGHT: u32 = 8;

impl Cluster {
    /// Two members whose rings each give every key to the other: each has its own registry, in
    /// which the other has a hundred million times its weight.
    pub(crate) async fn conflicting_pair() -> (Self, Self) {
        let origin = Origin::new();
        let (mut a, mut b) = (Self::empty(origin.clone()), Self::empty(origin));
        a.add("left", CAPACITY_BYTES);
        b.add("right", CAPACITY_BYTES);
        a.put_heavy_member("right", b.peer_address(0)).await;
        b.put_heavy_member("left", a.peer_address(0)).await;
        for cluster in [&a, &b] {
            let whole = || async { cluster.ring_of(0).await.len() == 2 };
            eventually(Duration::from_secs(10), whole).await;
        }
        (a, b)
    }

    /// `shop-0` with a registry of its own, in which the test puts and removes the others, and the
    /// cluster of `shop-1` and `shop-2`, in which `shop-0` is registered too.
    pub(crate) async fn with_own_view() -> (Self, Self) {
        let mut own = Self::empty(Origin::new());
        let mut others = Self::empty(own.origin.clone());
        others.links = own.links.clone();
        own.add("shop-0", CAPACITY_BYTES);
        others.add("shop-1", CAPACITY_BYTES);
        others.add("shop-2", CAPACITY_BYTES);
        others.put_member("shop-0", "uid of shop-0", own.peer_address(0)).await;
        own.put_member("shop-1", "uid of shop-1", others.peer_address(0)).await;
        own.put_member("shop-2", "uid of shop-2", others.peer_address(1)).await;
        for (cluster, member) in [(&own, 0), (&others, 0), (&others, 1)] {
            let whole = || async { cluster.ring_of(member).await.len() == 3 };
            eventually(Duration::from_secs(10), whole).await;
        }
        (own, others)
    }

    async fn put_heavy_member(&self, name: &str, peer: SocketAddr) {
        self.register(name, "another registry's", peer, 100_000_000 * WEIGHT).await;
    }

    /// Registers a member of another registry.
    pub(crate) async fn put_member(&self, name: &str, uid: &str, peer: SocketAddr) {
        self.register(name, uid, peer, WEIGHT).await;
    }

    async fn register(&self, name: &str, uid: &str, peer: SocketAddr, weight: u32) {
        let registration = Registration {
            op: 0,
            address: peer.to_string(),
            metadata: Metadata {
                uid: uid.into(),
                peer_address: peer.to_string(),
                http_address: peer.to_string(),
                weight,
                zone: None,
                version: "0".into(),
            },
        };
        self.put(self.keys.member(name), serde_json::to_vec(&registration).expect("data")).await;
    }

    /// Deregisters a member of another registry as its own drain would.
    pub(crate) async fn remove_member(&self, name: &str) {
        let (key, mut etcd) = (self.keys.member(name), self.etcd().await);
        let found = etcd.get(key.as_str(), None).await.expect("read");
        let value = found.kvs().first().expect("registered").value();
        let mut registration: Registration = serde_json::from_slice(value).expect("data");
        registration.op = LEAVING;
        let value = serde_json::to_vec(&registration).expect("data");
        etcd.put(key.as_str(), value, None).await.expect("put");
        etcd.delete(key, None).await.expect("deleted");
    }

    /// Writes to the registry until its revision is above that of `other`.
    pub(crate) async fn advance_beyond(&self, other: &Self) {
        let target = u64::try_from(other.registry.faults().revision()).expect("positive");
        while self.ring_revision(0).await <= target {
            self.put_group("revisions", "http://127.0.0.1:1/{key}", 1_000).await;
            self.delete_group("revisions").await;
        }
    }

    async fn ring_revision(&self, member: usize) -> u64 {
        let ring = AdminClient::new(self.channel(member)).ring(RingRequest {}).await;
        ring.expect("a ring").into_inner().revision
    }

    /// Breaks or mends the calls of one member to another. Each is a cluster and an index in it.
    pub(crate) fn set_fault(&self, from: (&Self, usize), to: (&Self, usize), fault: Option<Fault>) {
        let name = from.0.cache(from.1).member();
        self.links.set(name, to.0.peer_address(to.1), fault);
    }
}
