//! Follows the cluster's prefix: list once, watch behind it, resume where the stream broke, list
//! again when history is gone or another registry answers.
//!
//! The watch has its own heartbeat, because a watch whose server died can stay silent for ever:
//! progress is asked for, and a heartbeat that is not answered before the next one ends the
//! session. Never drops what is known because the registry is silent.

use std::time::Duration;

use larder_proto::keys::{Keys, Named};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::registry::{Error, KeyChange, Listing, Session, Told};
use super::service::{Context, beat};
use super::{Entry, Event, Read};

/// Longest time between two listings. A watch misses nothing, but a registry rebuilt behind our
/// back under the same id and a higher revision is seen only by looking.
const LISTING_INTERVAL: Duration = Duration::from_secs(300);
/// How often departed members are judged anew.
const JUDGE_INTERVAL: Duration = Duration::from_millis(500);
/// Longest time between heartbeats, for long leases.
const MAX_HEARTBEAT: Duration = Duration::from_secs(2);

/// Keeps the View up to date.
pub(super) struct Follower {
    context: Context,
    connected: watch::Sender<bool>,
}

/// Why a session ended without an error.
enum Outcome {
    /// History is gone or contradicts what was seen.
    ListAgain,
}

impl Follower {
    pub(super) fn new(context: Context, connected: watch::Sender<bool>) -> Self {
        Self { context, connected }
    }

    /// Runs for ever.
    pub(super) async fn run(self) {
        let judge = async {
            let mut ticks = interval(JUDGE_INTERVAL);
            loop {
                ticks.tick().await;
                if !self.context.board.view().departed.is_empty() {
                    self.context.board.apply(Event::Ticked);
                }
            }
        };
        tokio::join!(self.follow(), judge);
    }

    async fn follow(&self) {
        let mut backoff = self.context.backoff();
        let mut list_first = true;
        loop {
            let began = Instant::now();
            let ended = self.session(&mut list_first).await;
            self.connected.send_if_modified(|is| std::mem::replace(is, false));
            // A session that lived for a while starts the backoff again.
            if began.elapsed() > self.context.lease_ttl {
                backoff.reset();
            }
            let delay = backoff.next_delay(self.context.random.ratio());
            match ended {
                Ok(Outcome::ListAgain) => list_first = true,
                Err(error) => {
                    let view = self.context.board.view();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        retry_ms = delay.as_millis(),
                        members = view.members.len(),
                        "registry lost, the last view stays"
                    );
                }
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// One connection. Sets `list_first` to false once it listed.
    async fn session(&self, list_first: &mut bool) -> Result<Outcome, Error> {
        let session = self.context.registry.connect().await?;
        if *list_first {
            self.list(session.as_ref()).await?;
            *list_first = false;
        }
        let seen = self.context.board.view().seen();
        let mut feed = session.watch(self.context.keys.root(), seen + 1).await?;
        let period = beat(self.context.lease_ttl).min(MAX_HEARTBEAT);
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listing = interval_at(Instant::now() + LISTING_INTERVAL, LISTING_INTERVAL);
        let mut asked = false;
        loop {
            tokio::select! {
                told = feed.next() => {
                    asked = false;
                    if let Some(outcome) = self.told(told?, seen) {
                        return Ok(outcome);
                    }
                    self.connected.send_if_modified(|is| !std::mem::replace(is, true));
                }
                _ = heartbeat.tick() => {
                    if asked {
                        return Err(Error::Silent { what: "answer the watch's heartbeat" });
                    }
                    asked = true;
                    feed.request_progress().await?;
                }
                _ = listing.tick() => self.list(session.as_ref()).await?,
            }
        }
    }

    fn told(&self, told: Told, seen: u64) -> Option<Outcome> {
        match told {
            // Behind what was seen: a replica that lags, or a registry that began anew.
            Told::Began { revision } if revision < seen => return Some(Outcome::ListAgain),
            Told::Began { .. } => {}
            Told::Compacted => {
                tracing::info!(seen, "the registry compacted what was missed, listing again");
                return Some(Outcome::ListAgain);
            }
            Told::Progress { revision } => self.context.board.apply(Event::Progressed(revision)),
            Told::Changes(changes) => {
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

/// Reads one key of the registry; nothing for a key that is none of ours.
pub(super) fn read(keys: &Keys, key: &[u8], value: Option<&[u8]>) -> Option<Entry> {
    let key = std::str::from_utf8(key).ok()?;
    match keys.parse(key)? {
        Named::Member(name) => Some(Entry::Member(name.to_owned(), parse(key, value))),
        Named::Group(name) => Some(Entry::Group(name.to_owned(), parse(key, value))),
    }
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, value: Option<&[u8]>) -> Read<T> {
    let Some(value) = value else { return Read::Gone };
    match serde_json::from_slice(value) {
        Ok(value) => Read::Value(Box::new(value)),
        Err(error) => {
            tracing::warn!(key, %error, "registry value cannot be read, skipped");
            Read::Unreadable
        }
    }
}
