//! The client: reads, invalidations, and what it can tell about the members.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{
    CurveRequest, CurveResponse, GetManyRequest, GetRequest, HotKeysRequest, HotKeysResponse,
    InvalidateRequest, Outcome, RingRequest, RingResponse, StatusRequest, StatusResponse,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::answer::{Answer, from_result};
use crate::builder::{Builder, Settings};
use crate::call::{Attempt, Route};
use crate::directory::Directory;
use crate::error::Error;
use crate::key::Key;
use crate::near::Near;
use crate::network::Network;
use crate::retry::key_status;
use crate::seed::Seed;

/// A client of one cluster. Cheap to clone; clones share connections, ring and near cache.
///
/// # Guarantees
/// - Every call ends by its deadline, whatever members do.
/// - A call fails for unreachable members only after every known one was asked in every round.
/// - A call that waits between rounds goes on as soon as any one member answers again.
///
/// # Cancel safety
/// A call that is dropped leaves nothing behind; a started request may still reach a member.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    /// Limit of a whole call.
    pub(crate) timeout: Duration,
}

pub(crate) struct Inner {
    pub(crate) directory: Arc<Directory>,
    pub(crate) settings: Settings,
    pub(crate) permits: Semaphore,
    pub(crate) queued: AtomicUsize,
    pub(crate) counts: Counts,
    pub(crate) near: Option<Near>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) tries: AtomicU64,
    pub(crate) failed_tries: AtomicU64,
}

/// Counters since the client was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, or tried to be sent.
    pub tries: u64,
    /// Those that failed.
    pub failed_tries: u64,
    /// Reads answered by the near cache.
    pub near_hits: u64,
    /// Reads that the near cache could not answer.
    pub near_misses: u64,
    /// Bytes charged to the near cache now.
    pub near_bytes: u64,
}

/// How far an invalidation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Members that confirmed.
    pub members_reached: u32,
    /// Members in the ring when it began.
    pub members_total: u32,
}

/// One member's answer to a question that all are asked.
#[derive(Debug)]
pub struct Told<T> {
    /// `host:port` that was asked.
    pub address: String,
    /// What it said.
    pub answer: Result<T, Error>,
}

impl Client {
    /// Starts with every setting at its default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(network: Arc<dyn Network>, seeds: Vec<Seed>, settings: Settings) -> Self {
        let directory = Directory::new(network, seeds, settings.follow_ring, settings.refresh);
        let near = (settings.near_bytes > 0 && !settings.near_ttl.is_zero())
            .then(|| Near::new(settings.near_bytes, settings.near_ttl));
        let timeout = settings.timeout;
        let inner = Inner {
            directory,
            permits: Semaphore::new(settings.in_flight),
            settings,
            queued: AtomicUsize::new(0),
            counts: Counts::default(),
            near,
        };
        Self { inner: Arc::new(inner), timeout }
    }

    /// The same client whose calls have another limit.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), timeout }
    }

    /// Reads one key.
    ///
    /// # Errors
    /// See [`Error`]; absent is an answer, not an error.
    pub async fn get(&self, group: &str, key: impl Key) -> Result<Answer, Error> {
        self.read(group, key, false).await
    }

    /// Reads one key and tells where the answer came from and why it was allowed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn explain(&self, group: &str, key: impl Key) -> Result<Answer, Error> {
        self.read(group, key, true).await
    }

    /// The near cache's answer, without a call; nothing when it has none that lives.
    #[must_use]
    pub fn near(&self, group: &str, key: &[u8], explain: bool) -> Option<Answer> {
        let near = self.inner.near.as_ref()?;
        Some(near.get(group, key, Instant::now())?.explained(explain))
    }

    async fn read(&self, group: &str, key: impl Key, explain: bool) -> Result<Answer, Error> {
        if let Some(answer) = self.near(group, key.bytes(), explain) {
            return Ok(answer);
        }
        let key = key.into_bytes();
        let Some(near) = &self.inner.near else {
            return if explain {
                self.read_explained(group, &key).await
            } else {
                self.read_plain(group, &key).await
            };
        };
        let fence = near.fence();
        let answer = self.read_explained(group, &key).await?;
        near.keep(group, &key, &answer, fence);
        Ok(answer.explained(explain))
    }

    async fn read_plain(&self, group: &str, key: &Bytes) -> Result<Answer, Error> {
        let limit = self.inner.settings.max_answer_bytes;
        self.call(self.timeout, Route::Key(group, key), |channel, left| {
            let request = GetRequest { group: group.into(), key: key.clone(), explain: false };
            async move {
                match cache(channel, limit).get(timed(request, left)).await {
                    Ok(response) => Ok(response.into_inner().into()),
                    Err(status) if status.code() == Code::NotFound => {
                        Ok(Answer::Absent { explanation: None })
                    }
                    Err(status) => Err(status),
                }
            }
        })
        .await
    }

    /// A batch of one, because only a batch explains an absent key.
    async fn read_explained(&self, group: &str, key: &Bytes) -> Result<Answer, Error> {
        let limit = self.inner.settings.max_answer_bytes;
        let result = self
            .call(self.timeout, Route::Key(group, key), |channel, left| {
                let keys = vec![key.clone()];
                let request = GetManyRequest { group: group.into(), keys, explain: true };
                async move {
                    let response = cache(channel, limit).get_many(timed(request, left)).await?;
                    // A key's error is judged like a call's: worth another try or not.
                    match response.into_inner().results.pop() {
                        Some(result) if result.outcome == i32::from(Outcome::Error) => {
                            Err(key_status(result))
                        }
                        Some(result) => Ok(result),
                        None => Err(Status::internal("no result for the key")),
                    }
                }
            })
            .await?;
        let answer = from_result(result)?;
        self.learn_from(&answer);
        Ok(answer)
    }

    /// Drops keys of a group from the members and from this client's near cache; no keys: the
    /// whole group. Copies in other clients' near caches live out their short life.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn invalidate<K: Key>(
        &self,
        group: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Invalidated, Error> {
        let keys: Vec<Bytes> = keys.into_iter().map(Key::into_bytes).collect();
        let forget = || self.inner.near.iter().for_each(|near| near.forget(group, &keys));
        // Before, so that our own reads see it at once; after, because a read in between may
        // have met a member that did not know yet.
        forget();
        let done = self
            .call(self.timeout, Route::Any, |channel, left| {
                let request = InvalidateRequest { group: group.into(), keys: keys.clone() };
                async move {
                    let answer = CacheClient::new(channel).invalidate(timed(request, left)).await?;
                    Ok(answer.into_inner())
                }
            })
            .await;
        forget();
        let done = done?;
        Ok(Invalidated { members_reached: done.members_reached, members_total: done.members_total })
    }

    /// The ring as one member sees it now.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn ring(&self) -> Result<RingResponse, Error> {
        self.call(self.timeout, Route::Any, |channel, left| async move {
            let answer = AdminClient::new(channel).ring(timed(RingRequest {}, left)).await?;
            Ok(answer.into_inner())
        })
        .await
    }

    /// The state of every known member, each asked once.
    ///
    /// # Errors
    /// Only when no member is known at all; a member that does not answer says so in its place.
    pub async fn status(&self) -> Result<Vec<Told<StatusResponse>>, Error> {
        self.ask_all(|channel, left| async move {
            Ok(AdminClient::new(channel).status(timed(StatusRequest {}, left)).await?.into_inner())
        })
        .await
    }

    /// What every known member predicts for a group at other sizes and under other policies.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn curve(&self, group: &str) -> Result<Vec<Told<CurveResponse>>, Error> {
        self.ask_all(|channel, left| async move {
            let request = timed(CurveRequest { group: group.to_owned() }, left);
            Ok(AdminClient::new(channel).curve(request).await?.into_inner())
        })
        .await
    }

    /// The keys that every known member is asked for most; no group: of every group.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn hot_keys(
        &self,
        group: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Told<HotKeysResponse>>, Error> {
        let group = group.unwrap_or_default();
        self.ask_all(|channel, left| async move {
            let request = timed(HotKeysRequest { group: group.to_owned(), limit }, left);
            Ok(AdminClient::new(channel).hot_keys(request).await?.into_inner())
        })
        .await
    }

    /// Asks every known member once.
    async fn ask_all<T>(&self, attempt: impl Attempt<T> + Clone) -> Result<Vec<Told<T>>, Error> {
        let directory = &self.inner.directory;
        let failed = |last| Error::Unavailable { tries: 0, last };
        directory.ensure_members().await.map_err(failed)?;
        if self.inner.settings.follow_ring {
            directory.refresh().await;
        }
        let members = directory.members();
        let asked = members.iter().map(|member| {
            let attempt = attempt.clone();
            async move {
                let answer = self.ask(member, self.timeout, attempt).await;
                Told { address: member.address().to_owned(), answer }
            }
        });
        Ok(join_all(asked).await)
    }

    /// Counters since the client was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (near_hits, near_misses, near_bytes) =
            self.inner.near.as_ref().map_or((0, 0, 0), Near::stats);
        Stats {
            tries: self.inner.counts.tries.load(Ordering::Relaxed),
            failed_tries: self.inner.counts.failed_tries.load(Ordering::Relaxed),
            near_hits,
            near_misses,
            near_bytes,
        }
    }

    pub(crate) fn learn_from(&self, answer: &Answer) {
        if let Some(explanation) = answer.explanation() {
            self.inner.directory.saw_revision(explanation.ring_revision);
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

pub(crate) fn cache(channel: Channel, limit: usize) -> CacheClient<Channel> {
    CacheClient::new(channel).max_decoding_message_size(limit)
}

/// A request that tells the member how long the caller still waits.
pub(crate) fn timed<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while calls can be spawned on a multi-thread runtime.
    #[test]
    fn calls_may_move_between_threads() {
        fn send<T: Send>(_: &T) {}
        fn shared<T: Clone + Send + Sync>(_: &T) {}
        let client = Client::builder().members(["127.0.0.1:1"]).build().expect("valid");
        shared(&client);
        send(&client.get("g", "k"));
        send(&client.explain("g", Bytes::new()));
        send(&client.get_many("g", ["a", "b"]));
        send(&client.invalidate("g", ["a"]));
        send(&client.ring());
        send(&client.status());
        send(&client.curve("g"));
        send(&client.hot_keys(None, 10));
    }
}
