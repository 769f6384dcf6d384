//! Asks a key's owner: the work of a forward flight. One hop, never two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_engine::{NewEntry, Tick};
use larder_proto::v1::{FetchResult, Outcome as Wire};
use tonic::Code;

use super::group::{Group, Outcome};
use super::load::{Keep, joined_or_full};
use super::{Answer, Awaited, Cache, Error, Hop, Step, fresh_copy};
use crate::flight::Flight;
use crate::metrics::Where;
use crate::peers::{Owner, Peer};

/// Owners that are asked before the key is loaded here: the first, and whoever stands in for it
/// once it is known not to answer.
const OWNERS_ASKED: usize = 2;

impl Cache {
    /// Joins the question to the key's owner, or asks it.
    pub(super) fn forward(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        hop: Hop,
    ) -> Result<Flight<Outcome>, Error> {
        assert_eq!(hop, Hop::Client, "a forwarded request is never forwarded again");
        let joined = group.forwards.join(key, &self.0.tasks, "forward", |key| {
            Box::pin(run(self.clone(), group.clone(), key))
        });
        joined_or_full(joined, group, Where::Peer)
    }

    /// Keeps a copy of a peer's answer for a short while, if it may be kept.
    fn keep_copy(
        &self,
        group: &Group,
        key: &[u8],
        answer: &Answer,
        fence: Option<larder_engine::Fence>,
    ) {
        let life_ms = answer.remaining_ms.min(self.0.hot_ttl_ms);
        let (Some(hot), Some(fence)) = (&group.hot, fence) else { return };
        if answer.stale || life_ms == 0 {
            return;
        }
        let now_ms = self.0.clock.now_ms();
        let until = Tick::from_millis(now_ms + life_ms);
        let loaded_at = Tick::from_millis(now_ms.saturating_sub(answer.age_ms));
        let entry =
            NewEntry::new(answer.value.clone(), until, until, answer.version).stored_at(loaded_at);
        if let Err(refused) = hot.insert(key, &entry, Some(fence), Tick::from_millis(now_ms)) {
            tracing::debug!(group = %group.name, kind = refused.kind(), "copy refused");
        }
    }
}

async fn run(cache: Cache, group: Arc<Group>, key: Bytes) -> Outcome {
    let now_ms = cache.0.clock.now_ms();
    if let Some(hit) = group.hot.as_ref().and_then(|hot| hot.peek(&key, Tick::from_millis(now_ms)))
        && let Some(answer) = fresh_copy(hit, now_ms)
    {
        return Ok(answer);
    }
    let mut silent = None;
    for _ in 0..OWNERS_ASKED {
        // Asked anew each time: an owner that did not answer is by-passed from then on.
        let peer = match cache.0.peers.view().owner(&group.name, &key) {
            Owner::There(peer) => peer.clone(),
            Owner::Here => {
                let outcome = stand_in(&cache, &group, &key, Keep::Owned).await;
                return after(silent, outcome);
            }
        };
        if let Some(outcome) = ask(&cache, &group, &key, &peer).await {
            return outcome;
        }
        silent = Some(peer.name().clone());
    }
    cache.0.metrics.fallbacks.inc();
    after(silent, stand_in(&cache, &group, &key, Keep::Short).await)
}

/// What is told when somebody was asked before and gave no answer.
fn after(silent: Option<Arc<str>>, outcome: Outcome) -> Outcome {
    match (silent, outcome) {
        (Some(owner), Err(source)) => Err(Error::OwnerSilent { owner, source: Box::new(source) }),
        (_, outcome) => outcome,
    }
}

/// One question to one owner; nothing when it must be answered in its place.
async fn ask(cache: &Cache, group: &Group, key: &Bytes, peer: &Peer) -> Option<Outcome> {
    let fence = group.hot.as_ref().map(larder_engine::Group::begin_load);
    group.metrics.load(Where::Peer);
    let result = match peer.fetch(&group.name, key).await {
        Ok(result) => result,
        Err(unanswered) => {
            group.metrics.load_error(Where::Peer);
            tracing::debug!(peer = %peer.name(), %unanswered, "owner by-passed");
            return None;
        }
    };
    if result.not_owner {
        cache.0.metrics.view_mismatch.inc();
    }
    if result.outcome() == Wire::Error {
        return refused(group, result);
    }
    let answer = Answer::from_peer(&result)?;
    cache.keep_copy(group, key, &answer, fence);
    // Whether the owner thinks otherwise is no news for our caller.
    Some(Ok(Answer { not_owner: false, ..answer }))
}

/// An owner's error. One that has not heard of the group yet is no reason to fail a read.
fn refused(group: &Group, result: FetchResult) -> Option<Outcome> {
    group.metrics.load_error(Where::Peer);
    let retry_after_ms = u64::from(result.retry_after_ms);
    match Code::from(result.code) {
        Code::FailedPrecondition => None,
        Code::DeadlineExceeded => Some(Err(Error::Deadline { awaited: Awaited::Origin })),
        code => Some(Err(Error::AtOwner {
            code,
            message: result.message.into(),
            reason: result.reason.into(),
            retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)),
        })),
    }
}

/// Answers in the owner's place: from what is here, or by a load, which is never forwarded.
async fn stand_in(cache: &Cache, group: &Arc<Group>, key: &[u8], keep: Keep) -> Outcome {
    let deadline = cache.default_deadline();
    if keep == Keep::Owned {
        let now_ms = cache.0.clock.now_ms();
        // As for a peer: counted once, by the caller's own wait.
        return match cache.here(group, key, Hop::Peer, now_ms, false)? {
            Step::Done(answer) => answer,
            Step::Wait(wait) => wait.answer(deadline).await,
        };
    }
    let flight = cache.load(group, key, keep)?;
    match flight.outcome(deadline).await {
        Ok(outcome) => outcome,
        Err(crate::flight::Error::Deadline) => Err(Error::Deadline { awaited: Awaited::Origin }),
        Err(_) => Err(Error::Stopping),
    }
}
