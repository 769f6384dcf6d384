//! A cluster under test: etcd, origin and members, with every key loaded once.

use std::time::{Duration, Instant};

use larder_client::Client;
use larder_proto::contract::{
    Freshness, GroupContract, HttpOrigin, Origin as OriginContract, OriginLimits,
};
use larder_proto::keys::Keys;
use larder_proto::v1::GetManyRequest;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::etcd::Etcd;
use super::figures::record;
use super::load::{Choice, Load, Read, Reader, Window, name};
use super::member::Member;
use super::origin::Origin;
use super::shared::{CLUSTER, GROUP, NAMESPACE, until};

/// Keys that are loaded before a test begins.
pub(super) const KEYS: u32 = 300;
/// Reads a second, unless a test is about the rate. A third of it in the long form, in which many
/// clusters run at the same time.
pub(super) const RATE: u32 = 150;
/// The shortest lease that etcd grants.
pub(super) const SHORT_LEASE: Duration = Duration::from_secs(2);
/// Larder's own client gives up a member after it and tries the next: longer than the half second
/// for which a member waits for a peer. Its default, 2 s, suits slower origins.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a healthy cluster is measured before a fault.
pub(super) const BASE: Duration = Duration::from_secs(1);

/// Scenarios that compare latencies exclude all others; the rest mostly wait.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// Held while a scenario runs.
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    Released,
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
    turn: Turn,
}

/// Minutes of each outage, in the long form of the tests.
pub(super) fn minutes() -> Option<f64> {
    let minutes = std::env::var("LARDER_FAULTS_MINUTES").ok()?;
    Some(minutes.parse().expect("LARDER_FAULTS_MINUTES is a number"))
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
                early_refresh_percent: 0,
            },
            origin_limits: OriginLimits::new(32, 500),
        }
    }
}

impl Rig {
    /// `None` if no etcd is configured.
    pub(super) async fn start(setup: Setup) -> Option<Self> {
        let turn = Turn::Shared(MACHINE.read().await);
        let (etcd, origin) = (Etcd::start().await?, Origin::start().await);
        let keys = Keys::new(NAMESPACE, CLUSTER);
        let contract = GroupContract {
            policy: "Lru".into(),
            origin: OriginContract::Http(HttpOrigin::new(origin.url_template())),
            freshness: setup.freshness.clone(),
            origin_limits: setup.origin_limits.clone(),
            guaranteed_bytes: 0,
            generation: 1,
        };
        let contract = serde_json::to_vec(&contract).expect("data");
        etcd.client().await.put(keys.group(GROUP), contract, None).await.expect("etcd runs");
        let mut starting = Vec::new();
        for index in 0..setup.members {
            starting.push(Member::start(index, setup.lease_ttl, etcd.proxies().await));
        }
        let members = futures::future::join_all(starting).await;
        let mut rig = Self { etcd, origin, members, owners: Vec::new(), keys, setup, turn };
        rig.converged(Duration::from_secs(20)).await;
        rig.load_all_keys().await;
        if rig.setup.alone {
            // A start is a lot of work of its own, so it happens with the others.
            rig.turn = Turn::Released;
            rig.turn = Turn::Alone(MACHINE.write().await);
        }
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

    /// A stock client of each given member.
    pub(super) fn stock(&self, members: &[usize]) -> Vec<Reader> {
        members.iter().map(|member| Reader::Stock(self.members[*member].client())).collect()
    }

    /// Larder's own client, which sends each key to its owner.
    pub(super) fn larder(&self) -> Vec<Reader> {
        let members = self.members.iter().map(|member| member.grpc.to_string());
        let client = Client::builder().members(members).try_timeout(TRY_TIMEOUT).build();
        vec![Reader::Larder(client.expect("valid"))]
    }

    /// Reads of every key on every member.
    pub(super) fn load(&self) -> Load {
        let all: Vec<usize> = (0..self.members.len()).collect();
        let rate = if minutes().is_some() { RATE / 3 } else { RATE };
        Load::start(self.stock(&all), rate, Choice::Among(KEYS))
    }

    /// Records the figures of a fault of the registry since `began`, and checks what such a fault
    /// never touches: reads, the ring, the origin, the probes.
    pub(super) fn conclude(
        &self,
        (promise, fault): (&str, &str),
        reads: &Window,
        (began, loads): (Instant, usize),
        figures: &[(&str, String)],
    ) {
        let samples = self.members.iter().flat_map(|member| member.watch.samples_since(began));
        let ring = samples.map(|sample| sample.ring_members).min().expect("members are watched");
        let moved = |read: &&Read| {
            let owner = &self.owners[read.key as usize];
            read.result.as_ref().is_ok_and(|answered| answered.owner != *owner)
        };
        let moved = reads.reads().iter().filter(moved).count();
        let (extra, probes) = (self.origin.loads() - loads, self.check_probes());
        let mut all = vec![
            ("reads", reads.reads().len().to_string()),
            ("failed", reads.failures().count().to_string()),
            ("with another owner", moved.to_string()),
            ("smallest ring", format!("{ring} of {}", self.members.len())),
            ("extra loads", extra.to_string()),
        ];
        all.extend(figures.iter().cloned());
        all.push(("probes", format!("0 of {probes} failed")));
        record(promise, fault, &all);
        assert_no_failures(reads);
        let expected = (self.members.len(), 0, 0);
        assert_eq!((ring, moved, extra), expected, "smallest ring, reads moved, extra loads");
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

    /// Reads every key, until a pass loads none.
    async fn load_all_keys(&mut self) {
        const PASSES: u32 = 5;
        for _ in 0..PASSES {
            let before = self.origin.loads();
            self.owners = self.read_all_keys().await;
            if self.origin.loads() == before {
                return;
            }
        }
        panic!("{} loads of {KEYS} keys, and still more", self.origin.loads());
    }

    /// Returns each key's owner.
    async fn read_all_keys(&self) -> Vec<String> {
        // Few at a time, so that no origin limit refuses them.
        const AT_ONCE: usize = 50;
        let (mut owners, keys) = (Vec::new(), (0..KEYS).map(name).collect::<Vec<_>>());
        for keys in keys.chunks(AT_ONCE) {
            let (group, keys) = (GROUP.into(), keys.to_vec());
            let request = GetManyRequest { group, keys, explain: true };
            let answers = self.members[0].client().get_many(request).await.expect("answers");
            for result in answers.into_inner().results {
                assert_eq!(result.code, 0, "{}", result.message);
                owners.push(result.explanation.expect("requested").owner);
            }
        }
        owners
    }
}

/// Fails with the table of seconds unless every read of the window got an answer.
pub(super) fn assert_no_failures(reads: &Window) {
    if let Some(first) = reads.failures().next() {
        let failed = reads.failures().count();
        panic!("{failed} reads failed, the first with {:?}\n{}", first.result, reads.by_second());
    }
}
