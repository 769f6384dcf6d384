//! One other member: a queue of keys to ask it for, and whether it answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_backoff::{Backoff, BackoffPolicy};
use larder_proto::v1::peer_client::PeerClient;
use larder_proto::v1::{DropRequest, FetchRequest, FetchResult};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::transport::Channel;

use super::batch::{self, Want};
use super::health::Health;
use super::{Context, channel};
use crate::metrics::PeerMetrics;

/// A peer that gives no answer in this time is by-passed (facts: product, "Membership").
pub(super) const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Keys that wait to be sent to one peer; more are answered in its place.
const QUEUE: usize = 16_384;
/// Bytes of answers in one batch, gRPC's common receive limit; what is more is asked for again.
pub(crate) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Groups remembered for which a peer missed an invalidation; more, and it is told to drop all.
const MAX_MISSED: usize = 10_000;

/// Another member.
pub struct Peer {
    name: Arc<str>,
    queue: mpsc::Sender<Want>,
    link: Arc<Link>,
}

/// What the tasks of a peer share.
pub(super) struct Link {
    pub(super) name: Arc<str>,
    /// Nothing if its address cannot be one.
    pub(super) client: Option<PeerClient<Channel>>,
    pub(super) health: Health,
    pub(super) metrics: PeerMetrics,
    pub(super) context: Arc<Context>,
    /// Groups of which the peer missed an invalidation: dropped there before it is asked again.
    missed: Mutex<BTreeSet<String>>,
}

/// A peer gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It did not answer lately and is by-passed.
    #[error("the peer is by-passed")]
    Down,
    /// As many keys wait for it as may.
    #[error("the peer's queue is full")]
    Full,
    /// The call failed or its time was over.
    #[error("the peer did not answer")]
    Failed,
}

impl Peer {
    /// Starts the peer's tasks. They end when the peer is dropped.
    pub(super) fn start(name: &str, address: &str, context: Arc<Context>) -> Self {
        let _runtime = context.tasks.handle().enter();
        let client = channel::open(address);
        if let Err(error) = &client {
            tracing::warn!(peer = name, address, %error, "peer's address cannot be used");
        }
        let (queue, wants) = mpsc::channel(QUEUE);
        let link = Arc::new(Link {
            name: name.into(),
            client: client.ok(),
            health: Health::new(),
            metrics: context.metrics.peer(name),
            missed: Mutex::default(),
            context,
        });
        let tasks = &link.context.tasks;
        tasks.spawn("peer", batch::drive(wants, link.clone()));
        Self { name: link.name.clone(), queue, link }
    }

    /// The member's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// True unless it did not answer lately.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link.health.is_up()
    }

    /// Asks for one key, in the next batch.
    ///
    /// # Errors
    /// [`Unanswered`]: the peer gave no answer. An error that it answered is a result.
    ///
    /// # Cancel safety
    /// Safe; the key may be asked for all the same.
    pub async fn fetch(&self, group: &Arc<str>, key: &Bytes) -> Result<FetchResult, Unanswered> {
        if !self.is_up() {
            return Err(Unanswered::Down);
        }
        let (reply, answered) = oneshot::channel();
        let want = Want { group: group.clone(), key: key.clone(), reply };
        self.queue.try_send(want).map_err(|_| Unanswered::Full)?;
        answered.await.unwrap_or(Err(Unanswered::Failed))
    }

    /// Asks whether the peer is there, and reports it.
    pub(super) async fn ask(&self) {
        let answers = self.link.answers().await;
        self.link.report(answers);
    }

    /// Tells the peer to drop keys (none: the whole group). True if it confirmed; else it is told
    /// again before it is asked for a key.
    pub async fn drop_keys(&self, group: &str, keys: &[Bytes]) -> bool {
        let confirmed = self.link.drop_keys(group, keys.to_vec()).await;
        if !confirmed {
            self.link.miss(group);
            self.link.down();
        }
        confirmed
    }
}

impl Link {
    async fn drop_keys(&self, group: &str, keys: Vec<Bytes>) -> bool {
        let Some(mut client) = self.client.clone() else { return false };
        let from = self.context.me.to_string();
        let request = DropRequest { from, group: group.to_owned(), keys };
        matches!(timeout(ANSWER_LIMIT, client.drop(request)).await, Ok(Ok(_)))
    }

    fn miss(&self, group: &str) {
        self.context.metrics.drops_missed.inc();
        let mut missed = self.missed.lock();
        if missed.len() < MAX_MISSED {
            missed.insert(group.to_owned());
        }
    }

    /// The peer did not answer: by-passes it and asks it in the background until it does.
    pub(super) fn down(self: &Arc<Self>) {
        if !self.health.down() {
            return;
        }
        self.context.metrics.peers_down.inc();
        self.report(false);
        tracing::warn!(peer = %self.name, "peer does not answer and is by-passed");
        let link = Arc::downgrade(self);
        self.context.tasks.spawn("probe", async move {
            const RETRY: Result<BackoffPolicy, larder_backoff::Error> =
                BackoffPolicy::new(Duration::from_millis(100), 2, Duration::from_secs(2), 20);
            let Some(random) = link.upgrade().map(|link| link.context.random.clone()) else {
                return;
            };
            let mut backoff = Backoff::new(RETRY.expect("a valid policy"));
            loop {
                tokio::time::sleep(backoff.next_delay(random.ratio())).await;
                // A peer that left the ring is asked no more.
                let Some(link) = link.upgrade() else { return };
                if link.context.tasks.stopping().is_cancelled() {
                    return;
                }
                if link.recover().await {
                    tracing::info!(peer = %link.name, "peer answers again");
                    link.health.up();
                    link.report(true);
                    return;
                }
            }
        });
    }

    /// Asks for nothing, to see whether the peer answers.
    async fn answers(&self) -> bool {
        let Some(mut client) = self.client.clone() else { return false };
        let request = FetchRequest { from: self.context.me.to_string(), ..Default::default() };
        matches!(timeout(ANSWER_LIMIT, client.fetch(request)).await, Ok(Ok(_)))
    }

    fn report(&self, answers: bool) {
        match self.context.reporter.get() {
            Some(reporter) if answers => reporter.answered(&self.name),
            Some(reporter) => reporter.failed(&self.name),
            None => {}
        }
    }

    /// True once the peer answers and knows what it missed.
    async fn recover(&self) -> bool {
        if !self.answers().await {
            return false;
        }
        let missed: Vec<String> = self.missed.lock().iter().cloned().collect();
        for group in missed {
            if !self.drop_keys(&group, Vec::new()).await {
                return false;
            }
            self.missed.lock().remove(&group);
        }
        true
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("name", &self.name).finish_non_exhaustive()
    }
}
