//! The near cache: copies of answers in this process, bounded in bytes and in time to live.
//!
//! A copy expires with the answer's remaining time to live, or with the configured one if that is
//! shorter; reads check it on a monotonic clock. A stale answer is never kept. This module makes no
//! calls.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::{Explanation, Source};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use tokio::time::Instant;

use crate::answer::Answer;

/// Bytes charged for an entry beyond its key and value: structures and index, an upper estimate.
const OVERHEAD_BYTES: usize = 256;
/// The entry weight from which the initial size of the index is derived.
const TYPICAL_BYTES: u64 = 1024;

pub(crate) struct Near {
    cache: Cache<Key, Entry, Weigh>,
    ttl: Duration,
    /// Counts invalidations. The answer of a call that began before one is not kept after it.
    fence: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Taken before a call and checked when its answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence(u64);

#[derive(Debug, PartialEq, Eq)]
struct Key {
    group: Box<str>,
    key: Bytes,
}

/// A borrowed [`Key`], for lookups.
struct KeyRef<'a> {
    group: &'a str,
    key: &'a [u8],
}

#[derive(Clone)]
struct Entry {
    /// `None` for an absent key.
    value: Option<Bytes>,
    explanation: Arc<Explanation>,
    created: Instant,
    expires: Instant,
}

#[derive(Clone)]
struct Weigh;

impl Near {
    /// `bytes` bounds all entries together, `ttl` the time to live of each.
    pub(crate) fn new(bytes: u64, ttl: Duration) -> Self {
        let items = usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self {
            cache: Cache::with_weighter(items, bytes, Weigh),
            ttl,
            fence: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence(self.fence.load(Ordering::Acquire))
    }

    pub(crate) fn get(&self, group: &str, key: &[u8], now: Instant) -> Option<Answer> {
        let key = KeyRef { group, key };
        let found = self.cache.get(&key);
        if let Some(entry) = &found
            && entry.expires <= now
        {
            self.cache.remove_if(&key, |e| e.expires <= now);
        }
        let live = found.filter(|e| e.expires > now);
        let counter = if live.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        live.map(|entry| entry.answer(now))
    }

    /// Keeps an answer, unless it is stale, expired or without an explanation, or an invalidation
    /// moved the fence.
    pub(crate) fn keep(&self, group: &str, key: &[u8], answer: &Answer, fence: Fence) {
        let Some(explanation) = answer.explanation() else { return };
        let ttl = self.ttl.min(Duration::from_millis(explanation.remaining_ms));
        if ttl.is_zero() || answer.is_stale() || explanation.stale || fence != self.fence() {
            return;
        }
        let now = Instant::now();
        let entry = Entry {
            // Copied, because the answer is a view that would keep a whole batch's buffer alive.
            value: answer.value().map(|v| Bytes::copy_from_slice(v)),
            explanation: Arc::new(explanation.clone()),
            created: now,
            expires: now + ttl,
        };
        let key = Key { group: group.into(), key: Bytes::copy_from_slice(key) };
        self.cache.insert(key, entry);
        // 1. This call saw the fence unmoved. 2. An invalidation moves it and removes the key.
        // 3. This call inserts. Checking again after the insert closes that gap.
        if fence != self.fence() {
            self.cache.clear();
        }
    }

    /// Removes keys of a group; without keys, the whole group.
    pub(crate) fn remove(&self, group: &str, keys: &[Bytes]) {
        self.fence.fetch_add(1, Ordering::AcqRel);
        if keys.is_empty() {
            self.cache.retain(|k, _| &*k.group != group);
        }
        for key in keys {
            self.cache.remove(&KeyRef { group, key });
        }
    }

    pub(crate) fn stats(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.hits), load(&self.misses), self.cache.weight())
    }
}

impl Entry {
    fn answer(&self, now: Instant) -> Answer {
        let held_ms = u64::try_from((now - self.created).as_millis()).unwrap_or(u64::MAX);
        let explanation = Some(Box::new(Explanation {
            source: match self.value {
                Some(_) => Source::Hot.into(),
                None => Source::Absent.into(),
            },
            age_ms: self.explanation.age_ms.saturating_add(held_ms),
            remaining_ms: self.explanation.remaining_ms.saturating_sub(held_ms),
            ..Explanation::clone(&self.explanation)
        }));
        match &self.value {
            Some(value) => Answer::Found { value: value.clone(), stale: false, explanation },
            None => Answer::Absent { explanation },
        }
    }
}

impl Weighter<Key, Entry> for Weigh {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        let value = entry.value.as_ref().map_or(0, Bytes::len);
        (OVERHEAD_BYTES + key.group.len() + key.key.len() + value) as u64
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { group: &self.group, key: &self.key }.hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.group.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.group == &*key.group && self.key == &key.key[..]
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn answer(value: Option<&'static [u8]>, remaining_ms: u64, stale: bool) -> Answer {
        let explanation = Some(Box::new(Explanation {
            remaining_ms,
            age_ms: 5,
            stale,
            ..Explanation::default()
        }));
        match value {
            Some(v) => Answer::Found { value: Bytes::from_static(v), stale, explanation },
            None => Answer::Absent { explanation },
        }
    }

    fn kept(near: &Near, answer: &Answer) -> Option<Answer> {
        near.keep("g", b"k", answer, near.fence());
        near.get("g", b"k", Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_expires_with_the_answer() {
        let near = Near::new(1 << 20, TTL);
        let copy = kept(&near, &answer(Some(b"v"), 300, false)).expect("fresh");
        assert_eq!(copy.explanation().expect("kept").source(), Source::Hot);
        advance(Duration::from_millis(299)).await;
        let copy = near.get("g", b"k", Instant::now()).expect("one millisecond left");
        let explanation = copy.explanation().expect("kept");
        assert_eq!((explanation.age_ms, explanation.remaining_ms), (304, 1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(near.get("g", b"k", Instant::now()), None);
        assert_eq!(near.stats(), (2, 1, 0), "the expired copy was removed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_expires_at_the_configured_ttl() {
        let near = Near::new(1 << 20, TTL);
        assert!(kept(&near, &answer(Some(b"v"), 60_000, false)).is_some());
        advance(TTL).await;
        assert_eq!(near.get("g", b"k", Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_key_is_kept_only_for_its_remaining_ttl() {
        let near = Near::new(1 << 20, TTL);
        assert_eq!(kept(&near, &answer(None, 0, false)), None);
        let copy = kept(&near, &answer(None, 50, false)).expect("briefly");
        assert_eq!(copy.value(), None);
        advance(Duration::from_millis(50)).await;
        assert_eq!(near.get("g", b"k", Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_and_unexplained_answers_are_never_kept() {
        let near = Near::new(1 << 20, TTL);
        assert_eq!(kept(&near, &answer(Some(b"v"), 300, true)), None);
        assert_eq!(kept(&near, &answer(Some(b"v"), 300, false).explained(false)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_requested_before_an_invalidation_is_not_kept_after_it() {
        let near = Near::new(1 << 20, TTL);
        let before = near.fence();
        near.remove("g", &[Bytes::from_static(b"k")]);
        near.keep("g", b"k", &answer(Some(b"old"), 300, false), before);
        assert_eq!(near.get("g", b"k", Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn removing_a_group_keeps_the_others() {
        let near = Near::new(1 << 20, TTL);
        for group in ["a", "b"] {
            near.keep(group, b"k", &answer(Some(b"v"), 300, false), near.fence());
        }
        near.remove("a", &[]);
        assert_eq!(near.get("a", b"k", Instant::now()), None);
        assert!(near.get("b", b"k", Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_stay_within_the_bound() {
        let near = Near::new(64 * 1024, TTL);
        for i in 0_u32..10_000 {
            near.keep("g", &i.to_le_bytes(), &answer(Some(&[7; 100]), 900, false), near.fence());
            assert!(near.stats().2 <= 64 * 1024);
        }
    }
}
