//! One other member: a queue of keys to request from it, and whether it answers.

use std::sync::Arc;

use bytes::Bytes;
use larder_proto::v1::FetchResult;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Code;

use super::batch::{self, PendingKey, Unanswered};
use super::context::PeerContext;
use super::link::Link;

/// Keys queued for one peer. Beyond the limit the asking member answers itself.
const QUEUE_LIMIT: usize = 16_384;

/// Another member.
pub struct Peer {
    queue: mpsc::Sender<PendingKey>,
    link: Arc<Link>,
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
        let _runtime = context.tasks.handle().enter();
        let (queue, pending) = mpsc::channel(QUEUE_LIMIT);
        let link = Arc::new(Link::new(name, address, context.clone()));
        context.tasks.spawn("peer", batch::drive(pending, link.clone()));
        Self { queue, link }
    }

    /// Name of the member.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.link.name
    }

    /// False while the peer is bypassed because it did not answer.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.health.is_up()
    }

    /// Requests one key in the next batch. The asking reads wait until `deadline`.
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
        _deadline: Instant,
    ) -> Result<FetchResult, Unanswered> {
        if !self.is_up() {
            return Err(Unanswered::Down);
        }
        let (reply, answered) = oneshot::channel();
        let pending = PendingKey { group: group.clone(), key: key.clone(), reply };
        self.queue.try_send(pending).map_err(|_| Unanswered::Full)?;
        answered.await.unwrap_or(Err(Unanswered::Failed))
    }

    /// Checks whether the peer answers, and reports it to the health listener.
    pub(super) async fn probe(&self) {
        let answered = self.link.ping().await;
        self.link.report(answered);
    }

    /// Drops keys at the peer (none: the whole group). True if it confirmed. Otherwise the peer
    /// drops the group before it is asked for a key again.
    pub async fn drop_keys(&self, group: &str, keys: &[Bytes]) -> bool {
        let confirmed = self.link.drop_keys(group, keys.to_vec()).await;
        if !confirmed {
            self.link.record_missed(group);
            self.link.mark_down();
        }
        confirmed
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("name", self.name()).finish_non_exhaustive()
    }
}
