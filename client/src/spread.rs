//! The keys that members ask to read at all of them in turn, each for a short time.

use std::collections::HashMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Keys that are remembered at one time. A member asks for at most 16 of a group.
const MAX_KEYS: usize = 256;
/// A key is not spread for longer than this, whatever a member asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// The end of each key's time, by group and key.
type Ends = HashMap<Box<str>, HashMap<Bytes, Instant>>;

/// See the module. Read without a lock.
#[derive(Default)]
pub(crate) struct SpreadKeys {
    ends: ArcSwap<Ends>,
    /// Held while `ends` is replaced.
    changing: Mutex<()>,
}

impl SpreadKeys {
    /// Whether the reads of a key are spread at `now`.
    pub(crate) fn contains(&self, group: &str, key: &[u8], now: Instant) -> bool {
        let ends = self.ends.load();
        ends.get(group).and_then(|keys| keys.get(key)).is_some_and(|end| now < *end)
    }

    /// Records that a member asked to spread the reads of a key for `ms` from `now` on.
    pub(crate) fn learn(&self, group: &str, key: &Bytes, ms: u32, now: Instant) {
        let life = Duration::from_millis(ms.into()).min(LONGEST);
        // A renewal in the first half of the time would change little and copy the table.
        if life.is_zero() || self.contains(group, key, now + life / 2) {
            return;
        }
        let _changing = self.changing.lock();
        let mut ends = Ends::clone(&self.ends.load());
        ends.retain(|_, keys| {
            keys.retain(|_, end| now < *end);
            !keys.is_empty()
        });
        let count: usize = ends.values().map(HashMap::len).sum();
        let keys = ends.entry(group.into()).or_default();
        if count < MAX_KEYS || keys.contains_key(key) {
            keys.insert(key.clone(), now + life);
        }
        self.ends.store(ends.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_spread_until_its_time_ends_or_is_renewed() {
        let (spread, now) = (SpreadKeys::default(), Instant::now());
        let at = |ms| now + Duration::from_millis(ms);
        let key = Bytes::from_static(b"k");
        spread.learn("g", &key, 0, now);
        assert!(!spread.contains("g", b"k", now), "nobody asked for it");
        spread.learn("g", &key, 1_000, now);
        assert!(spread.contains("g", b"k", at(999)) && !spread.contains("g", b"k", at(1_000)));
        assert!(!spread.contains("h", b"k", now) && !spread.contains("g", b"x", now));
        spread.learn("g", &key, 1_000, at(100));
        assert!(!spread.contains("g", b"k", at(1_050)), "too early to be renewed");
        spread.learn("g", &key, 1_000, at(600));
        assert!(spread.contains("g", b"k", at(1_599)));
        spread.learn("g", &key, u32::MAX, at(2_000));
        assert!(!spread.contains("g", b"k", at(2_000) + LONGEST));
    }

    #[test]
    fn the_table_is_bounded_and_keys_whose_time_is_over_make_room() {
        let (spread, now) = (SpreadKeys::default(), Instant::now());
        let key = |number: usize| Bytes::from(number.to_string());
        (0..=MAX_KEYS).for_each(|number| spread.learn("g", &key(number), 1_000, now));
        let is_spread = |number: usize| spread.contains("g", &key(number), now);
        assert!(is_spread(MAX_KEYS - 1) && !is_spread(MAX_KEYS));
        let later = now + Duration::from_secs(1);
        spread.learn("g", &key(MAX_KEYS), 1_000, later);
        assert!(spread.contains("g", &key(MAX_KEYS), later));
    }
}
