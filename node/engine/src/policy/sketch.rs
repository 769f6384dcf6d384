//! A compact, ageing count of recent requests per key: a count-min sketch of 4-bit counters
//! (Cormode and Muthukrishnan 2005) that periodically halves all counts (Einziger, Friedman, Manes,
//! "TinyLFU: A Highly Efficient Cache Admission Policy", ACM ToS 13(4), 2017). It never undercounts
//! between two halvings.

/// Counts saturate here.
const MAX_COUNT: u64 = 15;
/// All counts are halved after this many requests per entry. The paper's sample of ten.
const SAMPLE: u64 = 10;
/// Words of 16 counters per block: one cache line, so that a key touches one line.
const BLOCK: usize = 8;
const ONES: u64 = 0x1111_1111_1111_1111;
const LOW_BITS: u64 = 0x7777_7777_7777_7777;

/// See the module. Takes 8 to 16 bytes per entry.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    words: Vec<u64>,
    increments: u64,
}

impl Sketch {
    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// Grows the sketch for this many entries and keeps its counts.
    pub(crate) fn ensure(&mut self, entries: usize) {
        if self.words.is_empty() {
            self.words = vec![0; BLOCK * 2];
        }
        while self.words.len() < entries {
            // The low bits of a key's hash select its block. With one more bit, the key maps to
            // either half, so both start with the old counts.
            self.words.extend_from_within(..);
            self.increments *= 2;
        }
    }

    /// Shrinks the sketch to at most this many bytes or to its minimum size. Some counts are lost.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        while self.overhead_bytes() > bytes && self.words.len() > BLOCK * 2 {
            self.words.truncate(self.words.len() / 2);
            self.increments /= 2;
        }
        self.words.shrink_to_fit();
    }

    /// Recent number of requests for the key, at most 15. Always 0 before the first `ensure`.
    pub(crate) fn count(&self, hash: u32) -> u8 {
        if self.words.is_empty() {
            return 0;
        }
        let counts = self.places(hash).map(|(word, shift)| (self.words[word] >> shift) & MAX_COUNT);
        let least = counts.into_iter().min().unwrap_or(0);
        u8::try_from(least).expect("four bits")
    }

    /// Adds `times` requests for the key.
    pub(crate) fn add(&mut self, hash: u32, times: u8) {
        if self.words.is_empty() {
            return;
        }
        let mut most = 0;
        for (word, shift) in self.places(hash) {
            let count = (self.words[word] >> shift) & MAX_COUNT;
            let added = (MAX_COUNT - count).min(times.into());
            self.words[word] += added << shift;
            most = most.max(added);
        }
        self.increments += most;
        if self.increments >= SAMPLE * self.words.len() as u64 {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut odd = 0;
        for word in &mut self.words {
            odd += u64::from((*word & ONES).count_ones());
            *word = (*word >> 1) & LOW_BITS;
        }
        // Each increment is in four counters, so a quarter of the odd ones are lost increments.
        self.increments = (self.increments - odd / 4) / 2;
    }

    /// The key's four counters, one in each pair of words of its block, as word and shift.
    fn places(&self, hash: u32) -> [(usize, u32); 4] {
        let block = (hash as usize & (self.words.len() / BLOCK - 1)) * BLOCK;
        let mixed = u64::from(hash).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mixed = mixed ^ (mixed >> 32);
        std::array::from_fn(|row| {
            let bits = (mixed >> (row * 8)) & 0xFF;
            let word = block + row * 2 + usize::from(bits & 1 == 1);
            (word, u32::try_from((bits >> 1) & 15).expect("four bits") * 4)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rarely_too_high_and_never_too_low() {
        let mut sketch = Sketch::default();
        sketch.ensure(1_024);
        let key = |id: u32| id.wrapping_mul(0x9E37_79B9);
        for round in 1..=3u8 {
            (0..500).for_each(|id| sketch.add(key(id), 1));
            assert!((0..500).all(|id| sketch.count(key(id)) >= round));
        }
        let ghosts = (10_000..20_000).filter(|&id| sketch.count(key(id)) > 0).count();
        assert!(ghosts < 500, "{ghosts} of 10,000 unknown keys have a count");
    }

    #[test]
    fn growth_keeps_the_counts() {
        let mut sketch = Sketch::default();
        sketch.ensure(1);
        sketch.add(0xABCD_EF01, 5);
        sketch.ensure(5_000);
        assert_eq!(sketch.count(0xABCD_EF01), 5);
    }

    #[test]
    fn old_counts_decay() {
        let mut sketch = Sketch::default();
        sketch.ensure(64);
        (0..15).for_each(|_| sketch.add(1, 1));
        (0..2_000u32).for_each(|id| sketch.add(id.wrapping_mul(0x9E37_79B9) | 1, 1));
        assert!(sketch.count(1) < 15);
    }
}
