//! The facade of the read path: hit? owner? flight, then peer or origin.
//!
//! It decides in which order things are asked and nothing else: what an entry is worth is
//! [`freshness`]'s judgement, who owns a key the ring's, how an owner is reached [`Peers`]'. A hit
//! is decided by [`Cache::get`] without an await. Start there.
//!
//! # Invariant
//! A request that came from a peer ([`Hop::Peer`]) is answered, loaded or refused here, never
//! forwarded; `forward` asserts it. And a load never waits for a forward, so that two members with
//! contrary rings cannot wait for each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use larder_engine::{Hit, Tick};
use larder_proto::config::Limits;
use larder_proto::v1::{Explanation, Source as From};
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;

use crate::config;
use crate::freshness::{self, Kind, Times, Verdict};
use crate::metrics::{CacheMetrics, Outcome as Counted};
use crate::peers::{Owner, Peers};

mod answer;
mod error;
mod forward;
mod group;
mod groups;
mod invalidate;
mod load;
mod stats;
mod wait;

pub use answer::Answer;
pub use error::{Awaited, Error};
use group::Group;
pub use group::{Plan, Source};
pub use invalidate::Invalidated;
use load::Keep;
pub use stats::{GroupReport, hit_ratio};
pub use wait::Wait;
use wait::Waiting;

/// Whom a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// An application; may be forwarded, once.
    Client,
    /// Another member, which believes that we own the key; never forwarded again.
    Peer,
}

/// Where a read stands after what can be said at once.
#[derive(Debug)]
pub enum Step {
    /// Over.
    Done(Result<Answer, Error>),
    /// The key is in flight.
    Wait(Wait),
}

/// The cache of one member. Clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

pub(crate) struct Shared {
    member: Arc<str>,
    limits: Limits,
    hot_ttl_ms: u64,
    clock: Clock,
    random: Random,
    /// Loads, forwards and fan-outs run here, in the background.
    tasks: Tasks,
    main: larder_engine::Cache,
    hot: Option<larder_engine::Cache>,
    groups: ArcSwap<HashMap<Arc<str>, Arc<Group>>>,
    /// True once the groups are known: a group that is missing then is unknown.
    joined: AtomicBool,
    peers: Peers,
    waiting: Arc<Waiting>,
    /// Number of the latest load.
    loads: AtomicU64,
    metrics: CacheMetrics,
}

/// What a cache is made of.
pub(crate) struct Parts {
    pub(crate) member: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) tasks: Tasks,
    pub(crate) peers: Peers,
    pub(crate) metrics: CacheMetrics,
}

impl Cache {
    /// A cache without groups.
    pub(crate) fn new(settings: &config::Member, parts: Parts) -> Self {
        let Parts { member, limits, clock, random, tasks, peers, metrics } = parts;
        let engine = |capacity_bytes, curves| {
            larder_engine::Cache::new(larder_engine::Options {
                capacity_bytes,
                max_entry_bytes: (limits.max_key_bytes + limits.max_value_bytes) as u64 + 1024,
                hash_seed: random.next(),
                curves,
                ..larder_engine::Options::default()
            })
        };
        Self(Arc::new(Shared {
            main: engine(settings.main_bytes, true),
            hot: (settings.hot_bytes > 0).then(|| engine(settings.hot_bytes, false)),
            hot_ttl_ms: settings.hot_ttl_ms,
            waiting: Waiting::new(limits.max_waiting_requests),
            groups: ArcSwap::default(),
            joined: AtomicBool::new(false),
            loads: AtomicU64::new(0),
            member,
            limits,
            clock,
            random,
            tasks,
            peers,
            metrics,
        }))
    }

    /// Reads one key, as far as can be said at once. A hit allocates nothing and waits for
    /// nothing; it may be called on any thread.
    #[must_use]
    pub fn get(&self, group: &str, key: &[u8], hop: Hop) -> Step {
        self.step(group, key, hop).unwrap_or_else(|error| {
            self.0.metrics.refused(error.kind());
            Step::Done(Err(error))
        })
    }

    /// Reads one key for a caller in this process, within the default time limit.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Safe: a load that was begun goes on.
    pub async fn read(&self, group: &str, key: &[u8]) -> Result<Answer, Error> {
        match self.get(group, key, Hop::Client) {
            Step::Done(answer) => answer,
            Step::Wait(wait) => wait.answer(self.default_deadline()).await,
        }
    }

    fn step(&self, group: &str, key: &[u8], hop: Hop) -> Result<Step, Error> {
        let groups = self.0.groups.load();
        let group = groups.get(group).ok_or_else(|| self.unknown(group))?;
        self.check_key(key)?;
        let now_ms = self.0.clock.now_ms();
        let view = self.0.peers.view();
        match (view.owner(&group.name, key), hop) {
            (Owner::Here, _) => self.here(group, key, hop, now_ms, false),
            (Owner::There(_), Hop::Peer) => {
                self.0.metrics.not_owner.inc();
                self.here(group, key, hop, now_ms, true)
            }
            (Owner::There(_), Hop::Client) => {
                if let Some(answer) = self.hot(group, key, now_ms) {
                    group.metrics.count(Counted::HitHot);
                    return Ok(Step::Done(Ok(answer)));
                }
                let place = self.0.waiting.enter()?;
                let flight = self.forward(group, key, hop)?;
                Ok(Step::Wait(Wait::new(place, flight, group, hop, Awaited::Owner, false)))
            }
        }
    }

    /// A key that is ours, or that a peer believes to be ours.
    fn here(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        hop: Hop,
        now_ms: u64,
        not_owner: bool,
    ) -> Result<Step, Error> {
        let done = |answer: Answer, counted| {
            if hop == Hop::Client {
                group.metrics.count(counted);
            }
            Ok(Step::Done(Ok(Answer { not_owner, ..answer })))
        };
        if let Some(hit) = group.main.get(key, Tick::from_millis(now_ms)) {
            match judge(&hit, group, now_ms) {
                Verdict::Fresh { remaining_ms } => {
                    return done(
                        Answer::fresh(hit, From::Local, remaining_ms, now_ms),
                        Counted::HitLocal,
                    );
                }
                Verdict::StaleAndReload => {
                    if !group.is_resting(now_ms) {
                        self.reload(group, key);
                    }
                    return done(Answer::stale(hit, now_ms), Counted::Stale);
                }
                Verdict::StaleIfError if group.is_resting(now_ms) => {
                    return done(Answer::stale(hit, now_ms), Counted::Stale);
                }
                Verdict::StaleIfError | Verdict::Expired => {}
            }
        }
        let place = self.0.waiting.enter()?;
        let flight = self.load(group, key, Keep::Owned)?;
        Ok(Step::Wait(Wait::new(place, flight, group, hop, Awaited::Origin, not_owner)))
    }

    /// A fresh copy of another member's entry.
    fn hot(&self, group: &Group, key: &[u8], now_ms: u64) -> Option<Answer> {
        let hit = group.hot.as_ref()?.get(key, Tick::from_millis(now_ms))?;
        fresh_copy(hit, now_ms)
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        let max = self.0.limits.max_key_bytes;
        match key.len() {
            0 => Err(Error::EmptyKey),
            bytes if bytes > max => Err(Error::KeyTooLong { bytes, max }),
            _ => Ok(()),
        }
    }

    /// Tells where an answer came from and why it was allowed.
    #[must_use]
    pub fn explain(&self, group: &str, key: &[u8], answer: &Answer) -> Explanation {
        let view = self.0.peers.view();
        let policy = self.0.groups.load().get(group).map(|group| group.plan.policy.name());
        Explanation {
            source: answer.told_source().into(),
            owner: view.placed(group, key).to_owned(),
            served_by: self.0.member.to_string(),
            ring_revision: view.revision(),
            age_ms: answer.age_ms,
            remaining_ms: answer.remaining_ms,
            version: answer.version,
            stale: answer.stale,
            policy: policy.unwrap_or_default().to_owned(),
        }
    }

    /// Name of this member.
    #[must_use]
    pub fn member(&self) -> &Arc<str> {
        &self.0.member
    }

    /// What is refused at the edge.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    /// The end of a request that brought no deadline of its own.
    #[must_use]
    pub fn default_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
            + std::time::Duration::from_millis(self.0.limits.default_timeout_ms)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("member", &self.0.member).finish_non_exhaustive()
    }
}

/// What an entry of the main store is worth under the contract in force.
fn judge(hit: &Hit, group: &Group, now_ms: u64) -> Verdict {
    let times = Times {
        stored_at_ms: hit.stored_at.as_millis(),
        fresh_until_ms: hit.fresh_until.as_millis(),
    };
    let kind = if hit.is_absent() { Kind::Absent } else { Kind::Present };
    freshness::judge(times, kind, &group.plan.freshness, now_ms)
}

/// A copy is worth what its owner said, until its short life ends.
fn fresh_copy(hit: Hit, now_ms: u64) -> Option<Answer> {
    let end_ms = hit.fresh_until.as_millis();
    (now_ms < end_ms).then(|| Answer::fresh(hit, From::Hot, end_ms - now_ms, now_ms))
}

#[cfg(test)]
mod tests;
