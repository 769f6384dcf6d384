//! The state of one member's cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use larder_proto::config::Limits;
use larder_proto::v1::Explanation;
use larder_runtime::clock::{Clock, unix_time_us};
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answer::Answer;
use super::error::Error;
use super::group::Group;
use super::offers::Offers;
use super::version::Versions;
use super::waiting::WaitingRequests;
use crate::config;
use crate::metrics::CacheMetrics;
use crate::peers::Peers;

/// Reads that ask a previous owner at the same time. Further ones load.
const MAX_ASKING: usize = 256;

/// The cache of one member. Clones share it.
#[derive(Clone)]
pub struct Cache(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) member: Arc<str>,
    pub(super) limits: Limits,
    pub(super) hot_ttl_ms: u64,
    pub(super) clock: Clock,
    pub(super) random: Random,
    /// Loads run here. Forwards run with the peers.
    pub(super) tasks: Tasks,
    /// Entries of the keys that this member owns.
    pub(super) main: larder_engine::Cache,
    /// Copies of other members' entries; `None` if the member keeps none.
    pub(super) hot: Option<larder_engine::Cache>,
    pub(super) groups: ArcSwap<HashMap<Arc<str>, Arc<Group>>>,
    /// False until the groups are known; until then a missing group may still exist.
    pub(super) joined: AtomicBool,
    pub(super) peers: Peers,
    pub(super) waiting: Arc<WaitingRequests>,
    pub(super) versions: Versions,
    pub(super) offers: Offers,
    /// Places of reads that ask the previous owner of their key.
    pub(super) asking_previous: Semaphore,
    pub(super) metrics: CacheMetrics,
}

/// What a cache needs from its member.
pub(crate) struct CacheDeps {
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
    pub(crate) fn new(settings: &config::MemberConfig, deps: CacheDeps) -> Self {
        let CacheDeps { member, limits, clock, random, tasks, peers, metrics } = deps;
        let engine = |capacity_bytes, curves| {
            larder_engine::Cache::new(larder_engine::Options {
                capacity_bytes,
                max_entry_bytes: (limits.max_key_bytes + limits.max_value_bytes) as u64 + 1024,
                hash_seed: random.next(),
                curves,
                ..larder_engine::Options::default()
            })
        };
        let cache = Self(Arc::new(Shared {
            main: engine(settings.main_bytes, true),
            hot: (settings.hot_bytes > 0).then(|| engine(settings.hot_bytes, false)),
            hot_ttl_ms: settings.hot_ttl_ms,
            waiting: WaitingRequests::new(limits.max_waiting_requests),
            groups: ArcSwap::default(),
            joined: AtomicBool::new(false),
            versions: Versions::new(unix_time_us().saturating_sub(clock.now_ms() * 1_000)),
            offers: Offers::default(),
            asking_previous: Semaphore::new(MAX_ASKING),
            member,
            limits,
            clock,
            random,
            tasks,
            peers,
            metrics,
        }));
        cache.follow_invalidations();
        cache
    }

    /// Explains where an answer came from and why it was allowed.
    #[must_use]
    pub fn explain(&self, group: &str, key: &[u8], answer: &Answer) -> Explanation {
        let view = self.0.peers.view();
        let policy = self.0.groups.load().get(group).map(|group| group.plan.policy.name());
        Explanation {
            source: answer.reported_source().into(),
            owner: view.placed(group, key).to_owned(),
            served_by: self.0.member.to_string(),
            ring_revision: view.revision(),
            age_ms: answer.age_ms,
            remaining_ms: answer.remaining_ms,
            version: answer.version,
            stale: answer.is_stale(),
            policy: policy.unwrap_or_default().to_owned(),
            stale_reason: answer.stale_reason.into(),
            previous_owner: self.0.peers.previously_placed(group, key).unwrap_or_default(),
        }
    }

    /// Name of this member.
    #[must_use]
    pub fn member(&self) -> &Arc<str> {
        &self.0.member
    }

    /// Limits beyond which a request is refused before any work starts.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The deadline of a request that carries none.
    #[must_use]
    pub fn default_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.0.limits.default_timeout_ms)
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    pub(super) fn group(&self, name: &str) -> Result<Arc<Group>, Error> {
        self.0.groups.load().get(name).cloned().ok_or_else(|| self.unknown_group(name))
    }

    /// The error of a request for a group that is not in the table.
    pub(super) fn unknown_group(&self, name: &str) -> Error {
        if self.0.joined.load(Ordering::Acquire) {
            Error::UnknownGroup { group: name.to_owned() }
        } else {
            Error::NotJoined
        }
    }

    pub(super) fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        let max = self.0.limits.max_key_bytes;
        match key.len() {
            0 => Err(Error::EmptyKey),
            bytes if bytes > max => Err(Error::KeyTooLong { bytes, max }),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("member", &self.0.member).finish_non_exhaustive()
    }
}
