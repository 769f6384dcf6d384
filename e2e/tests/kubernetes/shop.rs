//! A CacheCluster `shop` with the group `students`, in a namespace of its own.

use std::ops::Deref;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use larder_e2e::cluster::{Cluster, Pod};
use larder_e2e::poll;
use larder_e2e::prometheus::http_get;
use larder_e2e::reader::Reader;

use crate::grpc;
use crate::world::World;

/// The pods of a CacheCluster's members.
const MEMBERS: &str = "larder.dev/cluster=shop,app.kubernetes.io/component=member";
/// Deadline of one read: half of the client's default, so that its second round of tries cannot
/// hide a member that does not answer.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Longest wait for Ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The CacheCluster `shop` of one namespace.
#[derive(Debug)]
pub(crate) struct Shop {
    cluster: Cluster,
    pub(crate) namespace: String,
    /// Address of the Service, once it is known.
    address: OnceLock<String>,
    pub(crate) apply_to_ready: Duration,
    pub(crate) apply_to_first_hit: Duration,
}

/// A [`Shop`] of one test. It is deleted when the test has passed; after a failure it stays for
/// its logs.
#[derive(Debug)]
pub(crate) struct OwnShop(Shop);

impl Deref for OwnShop {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.0
    }
}

impl Drop for OwnShop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.delete();
        }
    }
}

impl World {
    /// Creates a CacheCluster for one test, from the sample or an edited one.
    pub(crate) fn own_shop(&self, purpose: &str, sample: &str) -> OwnShop {
        OwnShop(Shop::create(self, purpose, sample))
    }
}

impl Shop {
    /// Applies `sample` to a watched namespace, and waits for Ready and for the first hit.
    pub(crate) fn create(world: &World, purpose: &str, sample: &str) -> Self {
        let (cluster, namespace) = (world.cluster.clone(), world.namespace(purpose));
        world.offer_database(&namespace);
        let begin = Instant::now();
        cluster.apply(&namespace, sample).expect("the sample is accepted");
        let mut shop = Self {
            cluster,
            namespace,
            address: OnceLock::new(),
            apply_to_ready: Duration::ZERO,
            apply_to_first_hit: Duration::ZERO,
        };
        let (first_hit, ready) = std::thread::scope(|scope| {
            let hit = scope.spawn(|| shop.wait_first_hit(begin));
            let ready = shop.wait_ready();
            (hit.join().expect("a first hit"), ready)
        });
        (shop.apply_to_ready, shop.apply_to_first_hit) = (ready, first_hit);
        shop
    }

    fn wait_first_hit(&self, begin: Instant) -> Duration {
        poll::until("the first hit", READY_LIMIT, || {
            let answer = self.get("students", "Tom")?;
            match grpc::source_of(&answer).as_str() {
                "SOURCE_LOADED" => Err("loaded, not yet a hit".into()),
                _ => Ok(()),
            }
        });
        begin.elapsed()
    }

    /// Waits until the CacheCluster is Ready.
    pub(crate) fn wait_ready(&self) -> Duration {
        self.cluster.wait_true(&self.namespace, "cachecluster/shop", "Ready", READY_LIMIT)
    }

    /// Address of the Service.
    ///
    /// # Errors
    /// While there is no Service.
    pub(crate) fn service_address(&self) -> Result<&str, String> {
        if let Some(address) = self.address.get() {
            return Ok(address);
        }
        let address = grpc::service_address(&self.cluster, &self.namespace, "shop")?;
        Ok(self.address.get_or_init(|| address))
    }

    /// Reads one key through the Service, with its explanation.
    ///
    /// # Errors
    /// The output of grpcurl.
    pub(crate) fn get(&self, group: &str, key: &str) -> Result<String, String> {
        grpc::get_from(&self.cluster, self.service_address()?, group, key)
    }

    /// Pods of the ready members, in order.
    pub(crate) fn member_pods(&self) -> Vec<Pod> {
        let mut pods = self.cluster.pods(&self.namespace, MEMBERS).expect("pods can be listed");
        pods.sort();
        pods
    }

    /// Waits until `count` members are ready and each has all of them in its ring.
    pub(crate) fn wait_members(&self, count: usize) -> Duration {
        poll::until(&format!("{count} members"), Duration::from_secs(60), || {
            let pods = self.member_pods();
            if pods.len() != count {
                return Err(format!("{} pods are ready", pods.len()));
            }
            for pod in &pods {
                let ring = metric(&pod.address, "larder_ring_members")?;
                if format!("{ring:.0}") != count.to_string() {
                    return Err(format!("the ring of {} has {ring} members", pod.name));
                }
            }
            Ok(())
        })
        .1
    }

    /// Starts to read 2,000 keys in turn, and returns when reads succeed at that rate.
    pub(crate) fn reader(&self, per_second: u32) -> Reader {
        let pods = self.member_pods();
        let members = pods.iter().map(|pod| format!("{}:7600", pod.address)).collect();
        let reader = Reader::start(members, 2000, per_second, READ_DEADLINE);
        reader.wait_for(u64::from(2 * per_second));
        reader
    }

    /// Deletes the resources, without waiting for their pods.
    fn delete(&self) {
        let resources = ["cachecluster,cachegroup", "--all", "--wait=false"];
        self.cluster.must(&[&["delete", "-n", &self.namespace], &resources[..]].concat());
    }
}

/// One number of a pod's metrics.
///
/// # Errors
/// When the pod does not answer or has no such metric.
pub(crate) fn metric(address: &str, name: &str) -> Result<f64, String> {
    let metrics = http_get(&format!("{address}:7690"), "/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("no {name}"))?;
    value.trim().parse().map_err(|e| format!("{name} {value}: {e}"))
}
