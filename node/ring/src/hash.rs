//! Hashes of keys, names and slots, and a logarithm with the same result on every machine.
//!
//! All of it is a wire contract, guarded by `tests/golden`: members that compute different numbers
//! disagree about owners.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hash function for keys and tokens of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HashKind {
    /// CRC-32 (IEEE) of the key without its group; for a token, of its decimal index followed by
    /// the member's name. golang/groupcache and its derivatives compute the same owners.
    Crc32,
    /// XXH3 with 64 bits of the key, seeded by the hash of the group, so that groups are
    /// distributed independently.
    Xxh3,
}

/// Position of a key for rendezvous hashing and [`HashKind::Xxh3`].
pub(crate) fn key(group: &str, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, xxh3_64(group.as_bytes()))
}

impl HashKind {
    pub(crate) fn key(self, group: &str, bytes: &[u8]) -> u64 {
        match self {
            HashKind::Crc32 => u64::from(crc32fast::hash(bytes)),
            HashKind::Xxh3 => key(group, bytes),
        }
    }

    /// Position of a member's token with this index.
    pub(crate) fn token(self, name: &str, index: u32) -> u64 {
        match self {
            HashKind::Crc32 => u64::from(crc32fast::hash(format!("{index}{name}").as_bytes())),
            HashKind::Xxh3 => xxh3_64_with_seed(name.as_bytes(), u64::from(index)),
        }
    }

    /// Number of positions on the ring.
    pub(crate) fn positions(self) -> u128 {
        match self {
            HashKind::Crc32 => 1 << 32,
            HashKind::Xxh3 => 1 << 64,
        }
    }
}

/// Pseudo-random number of a member for a slot: the finalizer of MurmurHash3 (Appleby) applied to
/// the hash of the member's name and the slot number.
pub(crate) fn draw(name_hash: u64, slot: u64) -> u64 {
    let mut x = name_hash ^ slot.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

pub(crate) fn name(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Score of a draw: `weight / -ln(u)` for `u` uniform in (0, 1). A member has the highest score
/// with a probability proportional to its weight (the logarithmic method of Schindelhauer and
/// Schomaker, "Weighted Distributed Hash Tables", SPAA 2005).
pub(crate) fn score(draw: u64, weight: u32) -> f64 {
    // 52 bits plus one half fit into the 53 bits of a double, so u is never 0 and never rounds to
    // 1.
    let u = ((draw >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
    f64::from(weight) / -ln(u)
}

/// Natural logarithm computed only by additions, multiplications and divisions, whose rounding IEEE
/// 754 defines. The last bit of the platform's `ln` may differ between machines.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7FF) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    // Centre the mantissa around 1, which avoids cancellation for x just below 1.
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)). s is at most 0.172, so the error after ten terms is below
    // 1e-16.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for term in (0..10u32).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_agrees_with_the_standard_library() {
        for x in [1e-300, 1e-16, 0.1, 0.5, 0.999_999, 1.0, 1.5, 2.0, 12_345.678] {
            let error = (ln(x) - x.ln()).abs();
            assert!(error <= 1e-14 * x.ln().abs().max(1.0), "ln({x}) is off by {error}");
        }
    }

    #[test]
    fn score_grows_with_the_draw_and_with_the_weight() {
        assert!(score(u64::MAX, 1) > score(u64::MAX / 2, 1));
        assert!(score(7 << 40, 200) > score(7 << 40, 100));
        assert!(score(u64::MAX, 1).is_finite() && score(0, 1) > 0.0);
    }
}
