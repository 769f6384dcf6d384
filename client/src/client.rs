//! The client: reads, invalidations, and questions about the members.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{
    CurveRequest, CurveResponse, GetManyRequest, GetRequest, HotKeysRequest, HotKeysResponse,
    InvalidateRequest, Outcome, RingRequest, RingResponse, StatusRequest, StatusResponse,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::answer::{Answer, from_result};
use crate::call::{Attempt, Dispatcher, Route};
use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::key::Key;
use crate::near::Near;
use crate::network::Network;
use crate::request::{cache, with_timeout};
use crate::settings::Settings;
use crate::status::key_status;

/// A client of one cluster. Cheap to clone; clones share connections, ring and near cache.
///
/// # Guarantees
/// - Every call ends by its deadline.
/// - A call fails for unreachable members only after it tried every known member in every round.
/// - Retries after answers and timeouts are at most a tenth of the calls, plus ten per second.
/// - A call that waits between rounds continues as soon as any member answers again.
///
/// # Cancel safety
/// A dropped call leaves nothing behind; a request that was sent may still reach a member.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    /// Time limit of a whole call.
    pub(crate) timeout: Duration,
}

pub(crate) struct Inner {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) near: Option<Near>,
}

/// Counters since the client was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, or tried to be sent.
    pub tries: u64,
    /// Requests that failed.
    pub failed_tries: u64,
    /// Retries that the budget did not allow.
    pub denied_retries: u64,
    /// Reads answered by the near cache.
    pub near_hits: u64,
    /// Reads that the near cache could not answer.
    pub near_misses: u64,
    /// Bytes charged to the near cache now.
    pub near_bytes: u64,
}

/// How many members an invalidation reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalidated {
    /// Members that confirmed.
    pub members_reached: u32,
    /// Members in the ring when it began.
    pub members_total: u32,
}

/// One member's answer to a question that goes to all members.
#[derive(Debug)]
pub struct MemberAnswer<T> {
    /// The member's `host:port`.
    pub address: String,
    /// What it answered, or why it did not.
    pub answer: Result<T, Error>,
}

impl Client {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        endpoints: Vec<Endpoint>,
        settings: Settings,
    ) -> Self {
        let directory = Directory::new(network, endpoints, &settings);
        let near = (settings.near_bytes > 0 && !settings.near_ttl.is_zero())
            .then(|| Near::new(settings.near_bytes, settings.near_ttl));
        let timeout = settings.timeout;
        let dispatcher = Dispatcher::new(directory, settings);
        Self { inner: Arc::new(Inner { dispatcher, near }), timeout }
    }

    /// The same client with another time limit for its calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), timeout }
    }

    /// Reads one key.
    ///
    /// # Errors
    /// See [`Error`]. An absent key is an answer, not an error.
    pub async fn get(&self, group: &str, key: impl Key) -> Result<Answer, Error> {
        self.read(group, key, false).await
    }

    /// Reads one key with an explanation of where the answer came from and why it was allowed.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn explain(&self, group: &str, key: impl Key) -> Result<Answer, Error> {
        self.read(group, key, true).await
    }

    /// The near cache's answer, without a call; `None` when it has no live one.
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
        let limit = self.inner.dispatcher.settings.max_answer_bytes;
        let route = Route::Owner { group, key };
        let call = self.inner.dispatcher.call(self.timeout, route, |channel, left| {
            let request = GetRequest { group: group.into(), key: key.clone(), explain: false };
            async move {
                match cache(channel, limit).get(with_timeout(request, left)).await {
                    Ok(response) => Ok(Some(response.into_inner())),
                    Err(status) if status.code() == Code::NotFound => Ok(None),
                    Err(status) => Err(status),
                }
            }
        });
        let Some(response) = call.await?.message else {
            return Ok(Answer::Absent { explanation: None });
        };
        self.inner.dispatcher.directory.spread(group, key, response.spread_ms);
        Ok(response.into())
    }

    /// A batch of one key, because only a batch explains an absent key.
    async fn read_explained(&self, group: &str, key: &Bytes) -> Result<Answer, Error> {
        let limit = self.inner.dispatcher.settings.max_answer_bytes;
        let route = Route::Owner { group, key };
        let call = self.inner.dispatcher.call(self.timeout, route, |channel, left| {
            let keys = vec![key.clone()];
            let request = GetManyRequest { group: group.into(), keys, explain: true };
            async move {
                let response = cache(channel, limit).get_many(with_timeout(request, left)).await?;
                // The key's error is the call's error, so it is retried like one.
                match response.into_inner().results.pop() {
                    Some(result) if result.outcome == i32::from(Outcome::Error) => {
                        Err(key_status(result))
                    }
                    Some(result) => Ok(result),
                    None => Err(Status::internal("no result for the key")),
                }
            }
        });
        let reply = call.await?;
        self.inner.dispatcher.directory.spread(group, key, reply.message.spread_ms);
        let answer = from_result(reply.member.address(), group, reply.message)?;
        self.learn_from(&answer);
        Ok(answer)
    }

    /// Drops keys of a group from the members and from this client's near cache; without keys, the
    /// whole group. Copies in other clients' near caches stay until they expire.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn invalidate<K: Key>(
        &self,
        group: &str,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Invalidated, Error> {
        let keys = keys.into_iter().map(Key::into_bytes).collect();
        let request = InvalidateRequest { group: group.into(), keys, tags: Vec::new() };
        self.invalidate_scope(request).await
    }

    /// Drops every value of a group that has one of the tags. Without tags nothing is dropped: a
    /// list that happens to be empty must not drop the whole group.
    ///
    /// A near cache does not know the tags of its copies, so this client's drops the group.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn invalidate_tags<T: Key>(
        &self,
        group: &str,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Invalidated, Error> {
        let tags: Vec<Bytes> = tags.into_iter().map(Key::into_bytes).collect();
        if tags.is_empty() {
            return Ok(Invalidated { members_reached: 0, members_total: 0 });
        }
        let request = InvalidateRequest { group: group.into(), keys: Vec::new(), tags };
        self.invalidate_scope(request).await
    }

    /// Drops the keys and the tags of a request; without both, the whole group.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn invalidate_scope(&self, request: InvalidateRequest) -> Result<Invalidated, Error> {
        let copies = if request.tags.is_empty() { &request.keys[..] } else { &[] };
        let near = &self.inner.near;
        let drop_copies = || near.iter().for_each(|near| near.remove(&request.group, copies));
        // Before the call, so that this client's reads miss at once; after it, because a read in
        // between may have reached a member that still had the value.
        drop_copies();
        let call = self.inner.dispatcher.call(self.timeout, Route::Any, |channel, left| {
            let request = with_timeout(request.clone(), left);
            async move { Ok(CacheClient::new(channel).invalidate(request).await?.into_inner()) }
        });
        let reply = call.await;
        drop_copies();
        let done = reply?.message;
        Ok(Invalidated { members_reached: done.members_reached, members_total: done.members_total })
    }

    /// The ring as one member sees it now.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn ring(&self) -> Result<RingResponse, Error> {
        let call =
            self.inner.dispatcher.call(self.timeout, Route::Any, |channel, left| async move {
                let request = with_timeout(RingRequest {}, left);
                Ok(AdminClient::new(channel).ring(request).await?.into_inner())
            });
        Ok(call.await?.message)
    }

    /// The state of every known member; each is asked once.
    ///
    /// # Errors
    /// No member is known. A member that does not answer has its error in its place.
    pub async fn status(&self) -> Result<Vec<MemberAnswer<StatusResponse>>, Error> {
        self.ask_all(|channel, left| async move {
            let request = with_timeout(StatusRequest {}, left);
            Ok(AdminClient::new(channel).status(request).await?.into_inner())
        })
        .await
    }

    /// What every known member predicts for a group with other sizes and policies.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn curve(&self, group: &str) -> Result<Vec<MemberAnswer<CurveResponse>>, Error> {
        self.ask_all(|channel, left| async move {
            let request = with_timeout(CurveRequest { group: group.to_owned() }, left);
            Ok(AdminClient::new(channel).curve(request).await?.into_inner())
        })
        .await
    }

    /// The keys that every known member serves most often; without a group, those of every group.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn hot_keys(
        &self,
        group: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MemberAnswer<HotKeysResponse>>, Error> {
        let group = group.unwrap_or_default();
        self.ask_all(|channel, left| async move {
            let message = HotKeysRequest { group: group.to_owned(), limit };
            let request = with_timeout(message, left);
            Ok(AdminClient::new(channel).hot_keys(request).await?.into_inner())
        })
        .await
    }

    async fn ask_all<T>(
        &self,
        attempt: impl Attempt<T> + Clone,
    ) -> Result<Vec<MemberAnswer<T>>, Error> {
        let dispatcher = &self.inner.dispatcher;
        let directory = &dispatcher.directory;
        let unknown = |last| Error::Unavailable { tries: 0, last };
        directory.ensure_members().await.map_err(unknown)?;
        if dispatcher.settings.follow_ring {
            directory.refresh().await;
        }
        let members = directory.members();
        let answers = members.iter().map(|member| {
            let attempt = attempt.clone();
            async move {
                let answer = dispatcher.call_member(member, self.timeout, attempt).await;
                MemberAnswer { address: member.address().to_owned(), answer }
            }
        });
        Ok(join_all(answers).await)
    }

    /// Counters since the client was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (near_hits, near_misses, near_bytes) =
            self.inner.near.as_ref().map_or((0, 0, 0), Near::stats);
        Stats {
            tries: self.inner.dispatcher.counts.tries.load(Ordering::Relaxed),
            failed_tries: self.inner.dispatcher.counts.failed_tries.load(Ordering::Relaxed),
            denied_retries: self.inner.dispatcher.counts.denied_retries.load(Ordering::Relaxed),
            near_hits,
            near_misses,
            near_bytes,
        }
    }

    pub(crate) fn learn_from(&self, answer: &Answer) {
        if let Some(explanation) = answer.explanation() {
            self.inner.dispatcher.directory.saw_revision(explanation.ring_revision);
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.inner.dispatcher.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while calls can be spawned on a multi-threaded runtime.
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
        send(&client.invalidate_tags("g", ["a"]));
        send(&client.ring());
        send(&client.status());
        send(&client.curve("g"));
        send(&client.hot_keys(None, 10));
    }
}
