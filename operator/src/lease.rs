//! Owns leader election among the operator's replicas: a coordination Lease that one of them holds.
//! Start at [`decide`], the whole rule as a pure function; [`Elector`] reads, decides and writes.
//!
//! # Guarantees
//! - At most eight writes a minute while the lease is held: about one renewal every nine seconds.
//! - A holder that stops in order releases the lease at once. A killed holder is replaced as soon
//!   as its pod is known to be gone, or when the lease has not changed for its duration.
//! - A holder that cannot renew stops leading before another may take over: [`GIVE_UP`] is shorter
//!   than [`DURATION`]. Each replica measures how long it has seen the lease unchanged, so clocks
//!   need not agree.
//!
//! A pod that was force-deleted while its Kubernetes node was cut off can keep working next to its
//! successor until it gives up. That is harmless: all writes are idempotent, and etcd refuses a
//! second learner and any change that would break its quorum.
//!
//! The published crates for leader election need an older kube, so this is written here.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use larder_runtime::random::Random;
use tokio::time::{Instant, sleep, timeout};

/// A lease that has not changed for this long is free.
pub const DURATION: Duration = Duration::from_secs(20);
/// A holder that could not renew for this long stops leading.
pub const GIVE_UP: Duration = Duration::from_secs(14);
/// Longest time between two renewals; shortened at random by up to a tenth.
pub const RENEW_EVERY: Duration = Duration::from_secs(9);
/// Longest time between two tries to acquire or to renew the lease after a failure; shortened at
/// random by up to a tenth.
pub const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Deadline of one request about the lease.
const REQUEST: Duration = Duration::from_secs(3);

/// The identity of one replica in the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// The identity of a pod. A restarted container of the pod has the same identity.
    #[must_use]
    pub fn of_pod(name: &str, uid: &str) -> Self {
        Self(format!("pod/{name}/{uid}"))
    }

    /// The identity of a process outside Kubernetes.
    #[must_use]
    pub fn of_process(random: &Random) -> Self {
        Self(format!("process/{:016x}", random.next()))
    }

    /// The identity as text, as the lease contains it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The state of the holder's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderPod {
    /// The pod does not exist or has ended, so its process has ended.
    Gone,
    /// The process may still run: the pod exists or is unknown, or the holder is not a pod.
    MayRun,
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'v> {
    /// The holder: none without a lease, empty after a release.
    pub holder: Option<&'v str>,
    /// How long this replica has seen the lease unchanged.
    pub unchanged: Duration,
    /// The lease's own duration, after which it is free when unchanged.
    pub duration: Duration,
    /// The state of the holder's pod.
    pub pod: HolderPod,
    /// This replica.
    pub me: &'v Identity,
}

/// What to do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAction {
    /// Create the lease for this replica.
    Create,
    /// Take the lease over.
    Take,
    /// Renew the lease, which this replica already holds.
    Keep,
    /// Another replica holds the lease: try again later.
    Wait,
}

/// Decides what to do about the lease.
#[must_use]
pub fn decide(view: LeaseView<'_>) -> LeaseAction {
    match view.holder {
        None => LeaseAction::Create,
        // Only one process at a time has this identity, so the lease is this replica's even when an
        // earlier container of its pod wrote it.
        Some(holder) if holder == view.me.as_str() => LeaseAction::Keep,
        Some("") => LeaseAction::Take,
        Some(_) if view.pod == HolderPod::Gone || view.unchanged > view.duration => {
            LeaseAction::Take
        }
        Some(_) => LeaseAction::Wait,
    }
}

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another replica took the lease.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// The lease could not be renewed in time.
    #[error("the lease could not be renewed for {} seconds", GIVE_UP.as_secs())]
    Expired(#[source] Option<Box<kube::Error>>),
}

/// Acquires, renews and releases the lease.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    pods: Api<Pod>,
    name: String,
    me: Identity,
    random: Random,
}

/// The lease as this replica last wrote it.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    renewed: Instant,
}

impl Elector {
    /// An elector for the lease `name` in `namespace`.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, me: Identity, random: Random) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            name: name.into(),
            me,
            random,
        }
    }

    /// Waits until this replica holds the lease. Failures are logged and tried again.
    ///
    /// # Cancel safety
    /// When it is cancelled during a write, this replica may hold the lease, which then expires.
    pub async fn acquire(&self) -> Held {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                // Another replica was faster: the write names the version that it replaces.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!(%error, "could not acquire the lease"),
            }
            sleep(self.jittered(RETRY_EVERY)).await;
        }
    }

    async fn try_acquire(
        &self,
        seen: &mut Option<(Option<String>, Instant)>,
    ) -> Result<Option<Held>, kube::Error> {
        let started = Instant::now();
        let lease = with_deadline(self.leases.get_opt(&self.name)).await?;
        let version = lease.as_ref().and_then(ResourceExt::resource_version);
        let first_seen = match seen {
            Some((known, since)) if *known == version => *since,
            _ => seen.insert((version, started)).1,
        };
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let holder = spec.as_ref().map(|spec| spec.holder_identity.clone().unwrap_or_default());
        let seconds = spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let view = LeaseView {
            holder: holder.as_deref(),
            unchanged: started - first_seen,
            duration: seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(DURATION, Duration::from_secs),
            pod: self.pod_of(holder.as_deref().unwrap_or_default()).await,
            me: &self.me,
        };
        let action = decide(view);
        tracing::debug!(?view, ?action, "read the lease");
        match (action, lease) {
            (LeaseAction::Wait, _) => Ok(None),
            (LeaseAction::Keep | LeaseAction::Take, Some(lease)) => {
                self.write(lease).await.map(Some)
            }
            (_, _) => {
                let metadata =
                    ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = self.claimed(Lease { metadata, spec: None });
                let params = PostParams::default();
                let lease = with_deadline(self.leases.create(&params, &lease)).await?;
                Ok(Some(Held { lease, renewed: started }))
            }
        }
    }

    /// Renews the lease until leadership ends.
    ///
    /// # Cancel safety
    /// This replica holds the lease until it expires; call [`Elector::release`].
    pub async fn hold(&self, held: &mut Held) -> Lost {
        let mut failure = None;
        loop {
            let pause = match failure {
                None => self.jittered(RENEW_EVERY),
                Some(_) => self.jittered(RETRY_EVERY),
            };
            sleep(pause).await;
            let started = Instant::now();
            match self.write(held.lease.clone()).await {
                Ok(renewed) => {
                    *held = renewed;
                    failure = None;
                }
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    match self.reread(held).await {
                        Ok(None) => {}
                        Ok(Some(other)) => return Lost::Taken(other),
                        Err(error) => failure = Some(error),
                    }
                }
                Err(error) => failure = Some(error),
            }
            if let Some(error) = &failure {
                tracing::warn!(%error, "could not renew the lease");
            }
            if started - held.renewed >= GIVE_UP {
                return Lost::Expired(failure.map(Box::new));
            }
        }
    }

    /// After a conflict: adopts a change that is not of the holder, or returns the new holder.
    async fn reread(&self, held: &mut Held) -> Result<Option<String>, kube::Error> {
        let lease = with_deadline(self.leases.get_opt(&self.name)).await?;
        let holder = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        match lease {
            Some(lease) if holder.as_deref() == Some(self.me.as_str()) => {
                held.lease = lease;
                Ok(None)
            }
            _ => Ok(Some(holder.unwrap_or_else(|| "nobody".into()))),
        }
    }

    /// Releases the lease, so that another replica need not wait for it to expire.
    pub async fn release(&self, held: Held) {
        let mut lease = held.lease;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let params = PostParams::default();
        match with_deadline(self.leases.replace(&self.name, &params, &lease)).await {
            Ok(_) => tracing::info!("lease released"),
            Err(error) => tracing::warn!(%error, "could not release the lease, which will expire"),
        }
    }

    /// Writes this replica into the lease; fails with a conflict when it changed since it was read.
    async fn write(&self, lease: Lease) -> Result<Held, kube::Error> {
        // Measured from before the request, because other replicas may see the write that early.
        let renewed = Instant::now();
        let lease = self.claimed(lease);
        let params = PostParams::default();
        let lease = with_deadline(self.leases.replace(&self.name, &params, &lease)).await?;
        Ok(Held { lease, renewed })
    }

    /// The lease with this replica as its holder, renewed now.
    fn claimed(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.take().unwrap_or_default();
        let kept = before.holder_identity.as_deref() == Some(self.me.as_str());
        let transitions = before.lease_transitions.unwrap_or(0) + i32::from(!kept);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.me.as_str().into()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| kept).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        });
        lease
    }

    async fn pod_of(&self, holder: &str) -> HolderPod {
        let mut parts = holder.split('/');
        let (Some("pod"), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next())
        else {
            return HolderPod::MayRun;
        };
        match with_deadline(self.pods.get_opt(name)).await {
            Ok(None) => HolderPod::Gone,
            Ok(Some(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let ended = matches!(phase, Some("Succeeded" | "Failed"));
                let successor = pod.metadata.uid.as_deref() != Some(uid);
                if ended || successor { HolderPod::Gone } else { HolderPod::MayRun }
            }
            Err(_) => HolderPod::MayRun,
        }
    }

    fn jittered(&self, longest: Duration) -> Duration {
        longest.mul_f64(1.0 - 0.1 * self.random.ratio())
    }
}

async fn with_deadline<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    timeout(REQUEST, request).await.unwrap_or_else(|_| {
        Err(kube::Error::Service("the API server did not answer in time".into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_as_a_table() {
        let me = Identity::of_pod("larder-operator-a", "u1");
        let other = "pod/larder-operator-b/u2";
        let (s, may_run, gone) = (Duration::from_secs, HolderPod::MayRun, HolderPod::Gone);
        let cases = [
            ("no lease yet", None, 0, may_run, LeaseAction::Create),
            ("released", Some(""), 0, may_run, LeaseAction::Take),
            ("held by this pod", Some(me.as_str()), 0, may_run, LeaseAction::Keep),
            (
                "held by this pod's earlier container",
                Some(me.as_str()),
                3_600,
                may_run,
                LeaseAction::Keep,
            ),
            ("held by another, renewed recently", Some(other), 19, may_run, LeaseAction::Wait),
            (
                "held by another, just before it expires",
                Some(other),
                20,
                may_run,
                LeaseAction::Wait,
            ),
            ("held by another, expired", Some(other), 21, may_run, LeaseAction::Take),
            ("held by another, whose pod is gone", Some(other), 0, gone, LeaseAction::Take),
        ];
        for (case, holder, unchanged, pod, expected) in cases {
            let unchanged = s(unchanged);
            let view = LeaseView { holder, unchanged, duration: DURATION, pod, me: &me };
            assert_eq!(decide(view), expected, "{case}");
        }
    }

    #[test]
    fn a_holder_gives_up_before_another_may_take_over() {
        // The last renewal may have reached the server just before its deadline, and the clock is
        // next read up to one pause and one request later.
        assert!(GIVE_UP + RETRY_EVERY + REQUEST < DURATION);
        assert!(RENEW_EVERY + REQUEST + RETRY_EVERY <= GIVE_UP);
    }

    #[test]
    fn renewals_stay_under_eight_a_minute() {
        let shortest = RENEW_EVERY.mul_f64(0.9);
        assert!(60.0 / shortest.as_secs_f64() <= 8.0);
    }

    #[test]
    fn pods_of_one_name_have_different_identities() {
        assert_ne!(Identity::of_pod("a", "u1"), Identity::of_pod("a", "u2"));
        assert!(Identity::of_process(&Random::seeded(1)).as_str().starts_with("process/"));
    }
}
