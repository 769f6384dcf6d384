//! A cluster under test: etcd, origin and members, with every key loaded once.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

use larder_client::Client;
use larder_proto::contract::{
    Freshness, GroupContract, HttpOrigin, Origin as OriginContract, OriginLimits,
};
use larder_proto::keys::Keys;
use larder_proto::v1::{GetManyRequest, RingRequest};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::etcd::Etcd;
use super::load::{Choice, Load, Reader, Window, name};
use super::member::Member;
use super::origin::Origin;

pub(super) const NAMESPACE: &str = "prod";
pub(super) const CLUSTER: &str = "shop";
pub(super) const GROUP: &str = "pages";
/// Keys that are loaded before a test begins.
pub(super) const KEYS: u32 = 300;
/// Reads a second, unless a test is about the rate.
pub(super) const RATE: u32 = 150;
/// The shortest lease that etcd grants.
pub(super) const SHORT_LEASE: Duration = Duration::from_secs(2);
/// How long a healthy cluster is measured before a fault.
pub(super) const BASE: Duration = Duration::from_secs(1);

/// Scenarios that compare latencies exclude all others; the rest mostly wait.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held while a scenario runs.
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// How a cluster is set up.
pub(super) struct Setup {
    pub(super) members: usize,
    pub(super) lease_ttl: Duration,
    pub(super) alone: bool,
    pub(super) freshness: Freshness,
    pub(super) origin_limits: OriginLimits,
}

pub(super) struct Rig {
    pub(super) etcd: Etcd,
    pub(super) origin: Origin,
    pub(super) members: Vec<Member>,
    /// Name of each key's owner.
    pub(super) owners: Vec<String>,
    pub(super) keys: Keys,
    setup: Setup,
    _turn: Turn,
}

/// Whether outages last minutes.
pub(super) fn long() -> bool {
    std::env::var_os("LARDER_FAULTS_LONG").is_some()
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            members: 3,
            lease_ttl: SHORT_LEASE,
            alone: false,
            freshness: Freshness {
                ttl_ms: 3_600_000,
                jitter_percent: 0,
                stale_while_revalidate_ms: 0,
                stale_if_error_ms: 0,
                negative_ttl_ms: 0,
            },
            origin_limits: OriginLimits::new(32, 500),
        }
    }
}

impl Rig {
    /// `None` if no etcd is configured.
    pub(super) async fn start(setup: Setup) -> Option<Self> {
        let turn = if setup.alone {
            Turn::Alone(MACHINE.write().await)
        } else {
            Turn::Shared(MACHINE.read().await)
        };
        let (etcd, origin) = (Etcd::start().await?, Origin::start().await);
        let keys = Keys::new(NAMESPACE, CLUSTER);
        let contract = GroupContract {
            policy: "Lru".into(),
            origin: OriginContract::Http(HttpOrigin::new(origin.url_template())),
            freshness: setup.freshness.clone(),
            origin_limits: setup.origin_limits.clone(),
            generation: 1,
        };
        let contract = serde_json::to_vec(&contract).expect("data");
        etcd.client().await.put(keys.group(GROUP), contract, None).await.expect("etcd runs");
        let mut starting = Vec::new();
        for index in 0..setup.members {
            starting.push(Member::start(index, setup.lease_ttl, etcd.proxies().await));
        }
        let members = futures::future::join_all(starting).await;
        let mut rig = Self { etcd, origin, members, owners: Vec::new(), keys, setup, _turn: turn };
        rig.converged(Duration::from_secs(20)).await;
        rig.owners = rig.load_all_keys().await;
        assert_eq!(rig.origin.loads(), KEYS as usize, "one load for each key");
        Some(rig)
    }

    /// Waits until each member is registered, connected, and has the whole ring. Returns how long
    /// that took.
    pub(super) async fn converged(&self, limit: Duration) -> Duration {
        let began = Instant::now();
        let whole = || async {
            let registered = self.etcd.registrations(&self.keys).await.len();
            let in_ring = |member: &Member| {
                member.watch.last().is_some_and(|sample| {
                    sample.at >= began
                        && sample.connected
                        && !sample.held
                        && sample.ring_members == self.setup.members
                })
            };
            registered == self.setup.members && self.members.iter().all(in_ring)
        };
        until(limit, "the cluster is whole", whole).await;
        began.elapsed()
    }

    /// A stock client of each given member, in turn.
    pub(super) fn load_on(&self, members: &[usize]) -> Load {
        let reader = |member: &usize| Reader::Stock(self.members[*member].client());
        Load::start(members.iter().map(reader).collect(), RATE, Choice::Among(KEYS))
    }

    pub(super) fn load_on_all(&self) -> Load {
        self.load_on(&(0..self.members.len()).collect::<Vec<_>>())
    }

    /// Larder's own client with its defaults. It sends each key to its owner.
    pub(super) fn load_by_larder_client(&self) -> Load {
        let members = self.members.iter().map(|member| member.grpc.to_string());
        let client = Client::builder().members(members).build().expect("valid");
        Load::start(vec![Reader::Larder(client)], RATE, Choice::Among(KEYS))
    }

    /// The members in each member's ring, from now back to `since`: the fewest.
    pub(super) fn smallest_ring(&self, since: Instant) -> usize {
        let samples = self.members.iter().flat_map(|member| member.watch.samples_since(since));
        samples.map(|sample| sample.ring_members).min().expect("members are watched")
    }

    /// Names of the members in one member's ring.
    pub(super) async fn ring_of(&self, member: usize) -> BTreeSet<String> {
        let ring = self.members[member].admin_client().ring(RingRequest {}).await;
        let ring = ring.expect("a ring").into_inner();
        ring.members.into_iter().map(|member| member.name).collect()
    }

    /// Checks that no fault moved a probe of a running member, and returns how many were made.
    pub(super) fn check_probes(&self) -> u32 {
        let mut checks = 0;
        for member in &self.members {
            let probes = member.watch.probes();
            let failures = (probes.liveness_failures, probes.readiness_failures);
            assert_eq!(failures, (0, 0), "liveness and readiness of {}: {probes:?}", member.name);
            checks += probes.checks;
        }
        assert!(checks > 0, "the probes were polled");
        checks
    }

    async fn load_all_keys(&self) -> Vec<String> {
        let keys = (0..KEYS).map(name).collect();
        let request = GetManyRequest { group: GROUP.into(), keys, explain: true };
        let answers = self.members[0].client().get_many(request).await.expect("answers");
        let owner = |result: larder_proto::v1::KeyResult| {
            assert_eq!(result.code, 0, "{}", result.message);
            result.explanation.expect("requested").owner
        };
        answers.into_inner().results.into_iter().map(owner).collect()
    }
}

/// Fails with the table of seconds unless every read of the window got an answer.
pub(super) fn assert_no_failures(reads: &Window) {
    if let Some(first) = reads.failures().next() {
        let failed = reads.failures().count();
        panic!("{failed} reads failed, the first with {:?}\n{}", first.result, reads.by_second());
    }
}

/// Polls until `holds` returns true.
pub(super) async fn until<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    holds: impl Fn() -> F,
) {
    let end = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
