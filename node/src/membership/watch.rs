//! Follows the cluster's prefix: list once, then watch. A broken stream resumes by revision. The
//! prefix is listed again when history was compacted or another registry answers.
//!
//! The watch has its own heartbeat, because a watch whose server died can stay silent forever: it
//! requests progress, and a heartbeat unanswered when the next one is due ends the session. A
//! silent registry never removes anything from the view.

use std::time::Duration;

use larder_proto::keys::{Keys, ParsedKey};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::context::MembershipContext;
use super::registry::{Error, KeyChange, Listing, Session, WatchMessage};
use super::view::{EVALUATION_INTERVAL_MS, Entry, Event, Read};

/// Longest time between two listings. A watch misses no change, but only a listing detects a
/// registry that was rebuilt under the same id with a higher revision.
const LISTING_INTERVAL: Duration = Duration::from_secs(300);
/// Longest time between heartbeats, for long leases.
const MAX_HEARTBEAT: Duration = Duration::from_secs(2);

/// Keeps the view up to date.
pub(super) struct Follower {
    context: MembershipContext,
    connected: watch::Sender<bool>,
}

/// How a session ended without an error.
enum SessionEnd {
    /// The history after the last seen revision is gone, or contradicts the view.
    ListAgain,
}

impl Follower {
    pub(super) fn new(context: MembershipContext, connected: watch::Sender<bool>) -> Self {
        Self { context, connected }
    }

    /// Never returns.
    pub(super) async fn run(self) {
        let evaluate = async {
            let mut ticks = interval(Duration::from_millis(EVALUATION_INTERVAL_MS));
            loop {
                ticks.tick().await;
                if !self.context.board.view().departed.is_empty() {
                    self.context.board.apply(Event::Ticked);
                }
            }
        };
        tokio::join!(self.follow(), evaluate);
    }

    async fn follow(&self) {
        let mut backoff = self.context.backoff();
        let mut list_first = true;
        loop {
            let began = Instant::now();
            let ended = self.session(&mut list_first).await;
            self.connected.send_if_modified(|is| std::mem::replace(is, false));
            // A session longer than a lease resets the backoff.
            if began.elapsed() > self.context.lease_ttl {
                backoff.reset();
            }
            let delay = backoff.next_delay(self.context.random.ratio());
            match ended {
                Ok(SessionEnd::ListAgain) => list_first = true,
                Err(error) => {
                    let view = self.context.board.view();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        retry_ms = delay.as_millis(),
                        members = view.members.len(),
                        "registry connection lost, keeping the last view"
                    );
                }
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// One connection. Clears `list_first` after a listing.
    async fn session(&self, list_first: &mut bool) -> Result<SessionEnd, Error> {
        let session = self.context.registry.connect().await?;
        if *list_first {
            self.list(session.as_ref()).await?;
            *list_first = false;
        }
        let seen = self.context.board.view().seen();
        let mut feed = session.watch(self.context.keys.root(), seen + 1).await?;
        let period = self.context.renewal_interval().min(MAX_HEARTBEAT);
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listing = interval_at(Instant::now() + LISTING_INTERVAL, LISTING_INTERVAL);
        let mut heartbeat_pending = false;
        loop {
            tokio::select! {
                message = feed.next() => {
                    heartbeat_pending = false;
                    if let Some(end) = self.handle(message?, seen) {
                        return Ok(end);
                    }
                    self.connected.send_if_modified(|is| !std::mem::replace(is, true));
                }
                _ = heartbeat.tick() => {
                    if heartbeat_pending {
                        return Err(Error::Silent { what: "answer the watch's heartbeat" });
                    }
                    heartbeat_pending = true;
                    feed.request_progress().await?;
                }
                _ = listing.tick() => self.list(session.as_ref()).await?,
            }
        }
    }

    fn handle(&self, message: WatchMessage, seen: u64) -> Option<SessionEnd> {
        match message {
            // A rebuilt registry, whose revision may have passed what was seen, or a lagging replica.
            WatchMessage::Began { cluster, revision }
                if cluster != self.context.board.view().cluster() || revision < seen =>
            {
                return Some(SessionEnd::ListAgain);
            }
            WatchMessage::Began { .. } => {}
            WatchMessage::Compacted => {
                tracing::info!(seen, "registry compacted the missed changes, listing again");
                return Some(SessionEnd::ListAgain);
            }
            WatchMessage::Progress { revision } => {
                self.context.board.apply(Event::Progressed(revision));
            }
            WatchMessage::Changes(changes) => {
                let keys = &self.context.keys;
                let read = |change: KeyChange| {
                    let entry = read(keys, &change.key, change.value.as_deref())?;
                    Some((change.revision, entry))
                };
                let changes = changes.into_iter().filter_map(read).collect();
                self.context.board.apply(Event::Changed(changes));
            }
        }
        None
    }

    async fn list(&self, session: &dyn Session) -> Result<(), Error> {
        let Listing { cluster, revision, entries } = session.list(self.context.keys.root()).await?;
        let keys = &self.context.keys;
        let entries =
            entries.iter().filter_map(|(key, value)| read(keys, key, Some(value))).collect();
        self.context.board.apply(Event::Listed { cluster, revision, entries });
        Ok(())
    }
}

/// Parses one key of the registry; `None` for a key that is neither a member nor a group.
fn read(keys: &Keys, key: &[u8], value: Option<&[u8]>) -> Option<Entry> {
    let key = std::str::from_utf8(key).ok()?;
    match keys.parse(key)? {
        ParsedKey::Member(name) => Some(Entry::Member(name.to_owned(), parse(key, value))),
        ParsedKey::Group(name) => Some(Entry::Group(name.to_owned(), parse(key, value))),
    }
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, value: Option<&[u8]>) -> Read<T> {
    let Some(value) = value else { return Read::Gone };
    match serde_json::from_slice(value) {
        Ok(value) => Read::Value(Box::new(value)),
        Err(error) => {
            tracing::warn!(key, %error, "registry value is unreadable, skipped");
            Read::Unreadable
        }
    }
}
