//! Owns leadership among the operator's replicas: a coordination Lease, held by one of them. Start
//! at [`decide`], the whole rule as a pure function; [`Elector`] reads, decides and writes.
//!
//! # Guarantees
//! - At most eight writes a minute while held: one renewal every nine seconds or so.
//! - A holder that stops in order releases at once; one that was killed is followed as soon as its
//!   pod is known to be gone, or when the lease has not changed for its duration.
//! - Who cannot renew stops to lead before anybody may follow: [`GIVE_UP`] is shorter than
//!   [`DURATION`]. Time is measured by how long *we* saw the lease unchanged, so clocks need not
//!   agree.
//!
//! A pod that was deleted by force while its Kubernetes node is cut off may work on beside its
//! successor until it gives up. That is bearable: all writes are idempotent, and etcd itself
//! refuses a second learner and a change that would cost its quorum.
//!
//! kube 5 has no helper crate that fits (those published bring an older kube along), so this is our
//! own.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use larder_runtime::random::Random;
use tokio::time::{Instant, sleep, timeout};

/// A lease that has not changed for so long is nobody's.
pub const DURATION: Duration = Duration::from_secs(20);
/// A holder that could not renew for so long stops to lead.
pub const GIVE_UP: Duration = Duration::from_secs(14);
/// The longest time between two renewals; shortened at random by up to a tenth.
pub const RENEW_EVERY: Duration = Duration::from_secs(9);
/// How often a waiting replica looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Limit of one request about the lease.
const REQUEST: Duration = Duration::from_secs(3);

/// Who asks for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(String);

impl Identity {
    /// A pod: a restarted container of it is the same holder.
    #[must_use]
    pub fn of_pod(name: &str, uid: &str) -> Self {
        Self(format!("pod/{name}/{uid}"))
    }

    /// A process outside Kubernetes.
    #[must_use]
    pub fn of_process(random: &Random) -> Self {
        Self(format!("process/{:016x}", random.next()))
    }

    /// As it stands in the lease.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of the holder's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderPod {
    /// There is no such pod any more, or it has ended: its process is gone.
    Gone,
    /// It is there, or it is not known, or the holder is no pod.
    MayLive,
}

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// Who stands in the lease: none when there is no lease, empty when it was released.
    pub holder: Option<&'v str>,
    /// For how long we have seen this lease unchanged.
    pub unchanged: Duration,
    /// The time after which an unchanged lease is nobody's, as written in it.
    pub duration: Duration,
    /// What is known of the holder's pod.
    pub pod: HolderPod,
    /// We.
    pub me: &'v Identity,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the lease, ours.
    Create,
    /// Write ourselves into it.
    Take,
    /// It is ours and was before.
    Keep,
    /// It is another's: look again.
    Wait,
}

/// The rule.
#[must_use]
pub fn decide(view: View<'_>) -> Action {
    match view.holder {
        None => Action::Create,
        // Only one process at a time has our identity, so what we find in our name is ours, also
        // when an earlier container of our pod wrote it.
        Some(holder) if holder == view.me.as_str() => Action::Keep,
        Some("") => Action::Take,
        Some(_) if view.pod == HolderPod::Gone || view.unchanged > view.duration => Action::Take,
        Some(_) => Action::Wait,
    }
}

/// Why leading ended.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another replica wrote itself into the lease.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// It could not be renewed in time.
    #[error("the lease could not be renewed for {} seconds", GIVE_UP.as_secs())]
    Expired(#[source] Option<Box<kube::Error>>),
}

/// Reads, decides, writes.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    pods: Api<Pod>,
    name: String,
    me: Identity,
    random: Random,
}

/// The lease as we wrote it.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    renewed: Instant,
}

impl Elector {
    /// For the lease `name` in `namespace`.
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

    /// Waits until the lease is ours. Failures are logged and tried again.
    ///
    /// # Cancel safety
    /// The lease may be ours when it is cancelled during a write; it then expires.
    pub async fn acquire(&self) -> Held {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            match self.look(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                // Another replica was quicker; that is what the version in the write is for.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => tracing::warn!(%error, "the lease could not be read or written"),
            }
            sleep(self.jittered(LOOK_EVERY)).await;
        }
    }

    async fn look(
        &self,
        seen: &mut Option<(Option<String>, Instant)>,
    ) -> Result<Option<Held>, kube::Error> {
        let started = Instant::now();
        let lease = within(self.leases.get_opt(&self.name)).await?;
        let version = lease.as_ref().and_then(ResourceExt::resource_version);
        let first_seen = match seen {
            Some((known, since)) if *known == version => *since,
            _ => seen.insert((version, started)).1,
        };
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let holder = spec.as_ref().map(|spec| spec.holder_identity.clone().unwrap_or_default());
        let seconds = spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let view = View {
            holder: holder.as_deref(),
            unchanged: started - first_seen,
            duration: seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(DURATION, Duration::from_secs),
            pod: self.pod_of(holder.as_deref().unwrap_or_default()).await,
            me: &self.me,
        };
        let action = decide(view);
        tracing::debug!(?view, ?action, "looked at the lease");
        match (action, lease) {
            (Action::Wait, _) => Ok(None),
            (Action::Keep | Action::Take, Some(lease)) => self.write(lease).await.map(Some),
            (_, _) => {
                let metadata =
                    ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = self.ours(Lease { metadata, spec: None });
                let made = within(self.leases.create(&PostParams::default(), &lease)).await?;
                Ok(Some(Held { lease: made, renewed: started }))
            }
        }
    }

    /// Returns when leading is over; until then the lease is renewed.
    ///
    /// # Cancel safety
    /// The lease stays ours until it expires; call [`Elector::release`].
    pub async fn hold(&self, held: &mut Held) -> Lost {
        let mut failure = None;
        loop {
            let pause = match failure {
                None => self.jittered(RENEW_EVERY),
                Some(_) => self.jittered(LOOK_EVERY),
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
                tracing::warn!(%error, "the lease could not be renewed");
            }
            if started - held.renewed >= GIVE_UP {
                return Lost::Expired(failure.map(Box::new));
            }
        }
    }

    /// After a conflict: takes over what changed beside the holder, or tells who holds it now.
    async fn reread(&self, held: &mut Held) -> Result<Option<String>, kube::Error> {
        let lease = within(self.leases.get_opt(&self.name)).await?;
        let holder = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        match lease {
            Some(lease) if holder.as_deref() == Some(self.me.as_str()) => {
                held.lease = lease;
                Ok(None)
            }
            _ => Ok(Some(holder.unwrap_or_else(|| "nobody".into()))),
        }
    }

    /// Gives the lease back, so that a waiting replica need not wait for its end.
    pub async fn release(&self, held: Held) {
        let mut lease = held.lease;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let params = PostParams::default();
        match within(self.leases.replace(&self.name, &params, &lease)).await {
            Ok(_) => tracing::info!("lease released"),
            Err(error) => tracing::warn!(%error, "the lease was not released and will expire"),
        }
    }

    /// Writes us into the lease; fails with a conflict when it has changed since it was read.
    async fn write(&self, lease: Lease) -> Result<Held, kube::Error> {
        // Counted from before the request, as others may count.
        let renewed = Instant::now();
        let lease = self.ours(lease);
        let params = PostParams::default();
        let lease = within(self.leases.replace(&self.name, &params, &lease)).await?;
        Ok(Held { lease, renewed })
    }

    fn ours(&self, mut lease: Lease) -> Lease {
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
            return HolderPod::MayLive;
        };
        match within(self.pods.get_opt(name)).await {
            Ok(None) => HolderPod::Gone,
            Ok(Some(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let ended = matches!(phase, Some("Succeeded" | "Failed"));
                let successor = pod.metadata.uid.as_deref() != Some(uid);
                if ended || successor { HolderPod::Gone } else { HolderPod::MayLive }
            }
            Err(_) => HolderPod::MayLive,
        }
    }

    fn jittered(&self, longest: Duration) -> Duration {
        longest.mul_f64(1.0 - 0.1 * self.random.ratio())
    }
}

async fn within<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    timeout(REQUEST, request).await.unwrap_or_else(|_| {
        Err(kube::Error::Service("no answer from the API server in time".into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_as_a_table() {
        let me = Identity::of_pod("larder-operator-a", "u1");
        let other = "pod/larder-operator-b/u2";
        let (s, live, gone) = (Duration::from_secs, HolderPod::MayLive, HolderPod::Gone);
        let cases = [
            ("no lease yet", None, 0, live, Action::Create),
            ("released", Some(""), 0, live, Action::Take),
            ("ours", Some(me.as_str()), 0, live, Action::Keep),
            ("ours, of the container before", Some(me.as_str()), 3_600, live, Action::Keep),
            ("another's, renewed lately", Some(other), 19, live, Action::Wait),
            ("another's, at its very end", Some(other), 20, live, Action::Wait),
            ("another's, expired", Some(other), 21, live, Action::Take),
            ("another's, whose pod is gone", Some(other), 0, gone, Action::Take),
        ];
        for (case, holder, unchanged, pod, expected) in cases {
            let view = View { holder, unchanged: s(unchanged), duration: DURATION, pod, me: &me };
            assert_eq!(decide(view), expected, "{case}");
        }
    }

    #[test]
    fn a_holder_gives_up_before_anybody_may_follow() {
        // The last renewal may have reached the server just before it was given up, and the next
        // look at the clock comes up to one pause and one request later.
        assert!(GIVE_UP + LOOK_EVERY + REQUEST < DURATION);
        assert!(RENEW_EVERY + REQUEST + LOOK_EVERY <= GIVE_UP);
    }

    #[test]
    fn renewals_stay_under_eight_a_minute() {
        let shortest = RENEW_EVERY.mul_f64(0.9);
        assert!(60.0 / shortest.as_secs_f64() <= 8.0);
    }

    #[test]
    fn pods_of_one_name_are_told_apart() {
        assert_ne!(Identity::of_pod("a", "u1"), Identity::of_pod("a", "u2"));
        assert!(Identity::of_process(&Random::seeded(1)).as_str().starts_with("process/"));
    }
}
