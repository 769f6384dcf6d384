//! A compact table of recently evicted keys, with 4 to 8 bytes per key: a part of the key's hash
//! and the time of its eviction on a clock of evicted bytes (the "ghost" table of Yang, Zhang, Qiu,
//! Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023). Occasional
//! collisions cause a wrong guess. `ghost.rs` is the exact variant.

/// Words per bucket: half a cache line, so that a lookup touches one line.
const BUCKET: usize = 8;
/// The span is at least this many clock units and less than twice as many. That is precise enough
/// and far below the 16 bits after which the clock wraps around.
const UNITS_LOG2: u32 = 11;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// High half: part of the hash. Low half: time of eviction.
    words: Vec<u32>,
    evicted_bytes: u64,
    /// A key is remembered until this many further bytes were evicted.
    span_bytes: u64,
    /// The clock unit is `1 << unit` bytes.
    unit: u32,
}

impl Recent {
    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.words.len() as u64 * 4
    }

    pub(crate) fn set_span(&mut self, bytes: u64) {
        self.span_bytes = bytes;
        let unit = (bytes | 1).ilog2().saturating_sub(UNITS_LOG2);
        if unit != self.unit {
            // The stored times are in the old unit.
            self.unit = unit;
            self.words.fill(0);
        }
    }

    /// Grows the table for this many keys and keeps its content.
    pub(crate) fn ensure(&mut self, keys: usize) {
        if self.words.is_empty() {
            self.words = vec![0; BUCKET * 2];
        }
        while self.words.len() < keys {
            // One more bit of the hash selects either half, so both start with the old content.
            self.words.extend_from_within(..);
        }
    }

    /// Shrinks the table to at most this many bytes or to its minimum size. Some keys are lost.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        while self.overhead_bytes() > bytes && self.words.len() > BUCKET * 2 {
            self.words.truncate(self.words.len() / 2);
        }
        self.words.shrink_to_fit();
    }

    /// Adds an evicted key with the weight of its entry.
    pub(crate) fn remember(&mut self, hash: u32, weight: u32) {
        self.evicted_bytes += u64::from(weight);
        let (now, part) = (self.now(), part(hash));
        let Some(bucket) = self.bucket(hash) else { return };
        let age = |word: u32| now.wrapping_sub(time(word));
        let same = bucket.iter().position(|&word| word >> 16 == part);
        let oldest = || (0..BUCKET).max_by_key(|&at| age(bucket[at]));
        let at = same.or_else(oldest).expect("a bucket has words");
        bucket[at] = part << 16 | u32::from(now);
    }

    /// True if the key was evicted within the span.
    pub(crate) fn recalls(&mut self, hash: u32) -> bool {
        let (now, span) = (self.now(), self.span_bytes >> self.unit);
        let Some(bucket) = self.bucket(hash) else { return false };
        let within = |word: u32| u64::from(now.wrapping_sub(time(word))) < span;
        bucket.iter().any(|&word| word >> 16 == part(hash) && within(word))
    }

    /// The clock starts half a period ahead, so that an empty word counts as old.
    fn now(&self) -> u16 {
        low_half(self.evicted_bytes >> self.unit).wrapping_add(1 << 15)
    }

    fn bucket(&mut self, hash: u32) -> Option<&mut [u32]> {
        let buckets = self.words.len() / BUCKET;
        let at = hash as usize & buckets.wrapping_sub(1);
        self.words.chunks_exact_mut(BUCKET).nth(at)
    }
}

/// Time at which a word's key was evicted.
fn time(word: u32) -> u16 {
    low_half(u64::from(word))
}

#[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
fn low_half(number: u64) -> u16 {
    number as u16
}

/// Bits of the hash that are independent of the bucket's index.
fn part(hash: u32) -> u32 {
    hash.wrapping_mul(0x9E37_79B1) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(id: u32) -> u32 {
        id.wrapping_mul(0x85EB_CA6B) ^ id.rotate_left(13)
    }

    #[test]
    fn a_key_is_recalled_for_a_span_of_evicted_bytes() {
        let mut recent = Recent::default();
        recent.ensure(1_000);
        recent.set_span(1_000 * 300);
        (0..10_000).for_each(|id| recent.remember(hash(id), 300));
        let known = |recent: &mut Recent, ids: std::ops::Range<u32>| {
            ids.filter(|&id| recent.recalls(hash(id))).count()
        };
        let young = known(&mut recent, 9_050..10_000);
        assert!(young > 850, "{young} of 950");
        assert!(known(&mut recent, 0..8_900) < 90);
        assert!(known(&mut recent, 20_000..30_000) < 90);
    }

    #[test]
    fn nothing_is_recalled_before_the_first_eviction() {
        let mut recent = Recent::default();
        recent.set_span(1 << 20);
        assert!(!recent.recalls(0));
        recent.remember(0, 1);
        recent.ensure(100);
        assert_eq!((0..10_000).filter(|&id| recent.recalls(hash(id))).count(), 0);
    }

    #[test]
    fn growth_keeps_the_content() {
        let mut recent = Recent::default();
        recent.ensure(1);
        recent.set_span(1 << 20);
        recent.remember(hash(7), 100);
        recent.ensure(5_000);
        assert!(recent.recalls(hash(7)));
    }
}
