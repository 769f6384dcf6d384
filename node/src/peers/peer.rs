//! One other member: a queue of keys to request from it, and whether it answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::{FetchResult, TakeOverRequest, TakeOverResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::batch::{self, PendingKey, Unanswered};
use super::context::PeerContext;
use super::link::Link;
use super::state::{ANSWER_TIMEOUT_MS, Event};
use crate::gather::GatheredKey;

/// Keys queued for one peer. Beyond the limit the asking member answers itself.
const QUEUE_LIMIT: usize = 16_384;

/// Another member.
pub struct Peer {
    queue: mpsc::Sender<PendingKey>,
    pub(super) link: Arc<Link>,
}

/// What an owner's error result means for the read that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The owner cannot answer for the group yet; the asking member answers in its place.
    NotReady,
    /// The owner's time for the load ran out.
    TimedOut,
    /// The load failed with this google.rpc.Code number.
    Failed(i32),
}

impl Refusal {
    /// Reads the code of a result whose outcome is an error.
    #[must_use]
    pub fn of(result: &FetchResult) -> Self {
        match Code::from(result.code) {
            Code::FailedPrecondition => Self::NotReady,
            Code::DeadlineExceeded => Self::TimedOut,
            _ => Self::Failed(result.code),
        }
    }
}

impl Peer {
    /// Starts the peer's tasks. They end when the peer is dropped.
    pub(super) fn start(name: &str, address: &str, context: &Arc<PeerContext>) -> Self {
        let tasks = &context.deps.tasks;
        let _runtime = tasks.handle().enter();
        let (queue, pending) = mpsc::channel(QUEUE_LIMIT);
        let link = Arc::new(Link::new(name, address, context.clone()));
        tasks.spawn_vital("peer", batch::drive(pending, link.clone()));
        tasks.spawn_vital("sync", link.clone().keep_synced());
        Self { queue, link }
    }

    /// Name of the member.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.link.name
    }

    /// False while the peer is bypassed: it does not answer, or has not confirmed an invalidation.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.is_usable()
    }

    /// Requests one key in the next batch. The owner gets the time until `deadline`, less an
    /// allowance for the hop, but at most that of a load. The batch waits for the other keys of a
    /// request with several.
    ///
    /// # Errors
    /// [`Unanswered`] if the peer gave no answer. An error that the peer returns is a result.
    ///
    /// # Cancel safety
    /// Safe; the key may still be requested.
    pub async fn fetch(
        &self,
        group: &Arc<str>,
        key: &Bytes,
        deadline: Instant,
        gathered: Option<GatheredKey>,
    ) -> Result<FetchResult, Unanswered> {
        if !self.is_up() {
            return Err(Unanswered::Down);
        }
        let (reply, answered) = oneshot::channel();
        let gathering = gathered.as_ref().map(|gathered| gathered.gathering().clone());
        let (group, key) = (group.clone(), key.clone());
        let pending = PendingKey { group, key, deadline, gathering, reply };
        self.queue.try_send(pending).map_err(|_| Unanswered::Full)?;
        drop(gathered);
        match timeout_at(deadline, answered).await {
            Ok(answer) => answer.unwrap_or(Err(Unanswered::Failed)),
            Err(_) => Err(Unanswered::Deadline),
        }
    }

    /// Asks for entries that this member should hold. `None` without a response within `limit`.
    pub(crate) async fn take_over(
        &self,
        request: TakeOverRequest,
        limit: Duration,
    ) -> Option<TakeOverResponse> {
        self.link.take_over(request, limit).await.ok()
    }

    /// Waits until the peer has confirmed an invalidation. False if it does not answer in time.
    pub(crate) async fn confirms(&self, number: u64) -> bool {
        let limit = Duration::from_millis(ANSWER_TIMEOUT_MS);
        self.link.wait_until_confirmed(number, limit).await
    }

    /// Bypasses the peer until it has confirmed an invalidation.
    pub(crate) fn hold_until_confirmed(&self, number: u64) {
        self.link.remote.record_late(number);
        self.link.event(Event::Unconfirmed { number });
        // The confirmation may have come since the caller looked. It is not an event of its own.
        self.link.heard(None);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.link.gone.cancel();
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("name", self.name()).finish_non_exhaustive()
    }
}
