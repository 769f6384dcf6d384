//! Seedable randomness for jitter and sampling. Not for secrets.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A random number generator. Clones share one stream of numbers.
#[derive(Debug, Clone)]
pub struct Random {
    rng: Arc<Mutex<SmallRng>>,
}

impl Random {
    /// Seeded by the operating system.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self { rng: Arc::new(Mutex::new(SmallRng::from_os_rng())) }
    }

    /// Produces the same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))) }
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.rng.lock().random_range(0..bound) }
    }

    /// A number in `0.0..1.0`.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.rng.lock().random()
    }

    /// Any 64-bit number.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.rng.lock().random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        for bound in [1, 2, 10, 1_000_000] {
            let drawn = a.below(bound);
            assert_eq!(drawn, b.below(bound));
            assert!(drawn < bound);
        }
        assert_eq!(a.below(0), 0);
        assert!((0.0..1.0).contains(&a.ratio()));
    }
}
