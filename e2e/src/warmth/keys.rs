//! Which keys are read: a working set in a fixed order with Zipf's popularity, and at even
//! intervals a key that nobody has read.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Zipf};

/// Exponent of the popularity in the working set.
const EXPONENT: f64 = 0.99;
/// The same keys in the same order in every run.
const SEED: u64 = 0x1a4d_e412;
/// How names of keys outside the working set begin.
const NEW: &str = "new-";

/// The load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Keys of the working set. All are cached before the change.
    pub keys: u32,
    /// Reads of the working set per second.
    pub reads_per_second: u32,
    /// Reads per second of keys that nobody has read: the origin's steady load, without which
    /// "1.1 times the steady load" would mean nothing.
    pub new_per_second: u32,
}

impl Shape {
    /// The load of the published figures.
    pub const FULL: Self = Self { keys: 20_000, reads_per_second: 500, new_per_second: 50 };

    /// All reads per second.
    #[must_use]
    pub fn per_second(self) -> u32 {
        self.reads_per_second + self.new_per_second
    }
}

/// The keys in the order in which they are read.
#[derive(Debug)]
pub struct Sequence {
    zipf: Zipf<f64>,
    random: StdRng,
    /// Each key of this number is new.
    interval: u64,
    read: u64,
}

impl Sequence {
    /// The first key of the sequence is next.
    ///
    /// # Panics
    /// When `shape` has no keys, or more new keys than reads.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let zipf = Zipf::new(f64::from(shape.keys), EXPONENT).expect("there are keys");
        let interval = u64::from(shape.per_second() / shape.new_per_second);
        assert!(interval > 1, "more new keys than reads: {shape:?}");
        Self { zipf, random: StdRng::seed_from_u64(SEED), interval, read: 0 }
    }
}

impl Iterator for Sequence {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.read += 1;
        if self.read.is_multiple_of(self.interval) {
            return Some(format!("{NEW}{}", self.read));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to keys")]
        let rank = self.zipf.sample(&mut self.random) as u32;
        Some(working(rank))
    }
}

/// Name of the key with this rank in the working set. The most popular one has rank 1.
#[must_use]
pub fn working(rank: u32) -> String {
    format!("key-{rank}")
}

/// Whether a key is outside the working set.
#[must_use]
pub fn is_new(key: &str) -> bool {
    key.starts_with(NEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_repeats_and_its_new_keys_come_at_even_intervals() {
        let shape = Shape { keys: 100, reads_per_second: 500, new_per_second: 50 };
        let some = || Sequence::new(shape).take(1_100).collect::<Vec<_>>();
        assert_eq!(some(), some());
        let places: Vec<usize> =
            some().iter().enumerate().filter(|(_, key)| is_new(key)).map(|(n, _)| n).collect();
        assert_eq!(places.len(), 100);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == 11), "{places:?}");
        let first = some().iter().filter(|key| **key == working(1)).count();
        let last = some().iter().filter(|key| **key == working(100)).count();
        assert!(first > 10 * last.max(1), "{first} reads of the first, {last} of the last key");
    }
}
