//! The single allocation of an entry: times, version, key and value, one after the other behind a
//! reference count. Start at [`Record::new`].
//!
//! The parts that a read accesses are adjacent: the reference count, the times and the key share
//! one or two cache lines. The slot stores a single pointer to the record.

use std::iter;

use triomphe::{Arc, ThinArc};

use crate::tick::Tick;

/// Bytes that `triomphe` stores before the content: reference count and length.
const SHARED_BYTES: u64 = 16;

/// Layout of the record in little-endian bytes: the times, the version in as many bytes as it
/// needs, the key, the value.
const STORED_BITS: u32 = 48;
const FRESH: usize = 6;
const HEAD: usize = 14;

/// Marks an entry that never expires.
const FOREVER_MS: u32 = u32::MAX;

/// From this size on, glibc's allocator maps whole pages, until such memory is freed for the first
/// time.
const MAPPED_BYTES: u64 = 128 << 10;
const PAGE_BYTES: u64 = 4 << 10;

/// When an entry was stored, and how long from then on it is fresh and kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    stored_at: Tick,
    fresh_for_ms: u32,
    keep_for_ms: u32,
}

impl Times {
    /// `stored_at` is stored in 48 bits (8,900 years) and each duration in 32 bits (49 days).
    pub(crate) fn new(stored_at: Tick, fresh_until: Tick, keep_until: Tick) -> Times {
        let stored_at = Tick::from_millis(stored_at.as_millis().min((1 << STORED_BITS) - 1));
        Times {
            stored_at,
            fresh_for_ms: life_ms(stored_at, fresh_until),
            keep_for_ms: life_ms(stored_at, keep_until.max(fresh_until)),
        }
    }

    /// Times of an entry with the life `life_ms`, as returned by [`Times::life_ms`].
    pub(crate) fn outlined(stored_at: Tick, life_ms: u32) -> Times {
        Times {
            fresh_for_ms: 0,
            keep_for_ms: life_ms,
            ..Times::new(stored_at, stored_at, stored_at)
        }
    }

    /// The whole life.
    pub(crate) fn life_ms(self) -> u32 {
        self.keep_for_ms
    }

    pub(crate) fn stored_at(self) -> Tick {
        self.stored_at
    }

    pub(crate) fn fresh_until(self) -> Tick {
        ends(self.stored_at, self.fresh_for_ms)
    }

    pub(crate) fn keep_until(self) -> Tick {
        ends(self.stored_at, self.keep_for_ms)
    }
}

/// See the module. Clones share the same bytes.
#[derive(Clone)]
pub(crate) struct Record(ThinArc<(), u8>);

impl Record {
    /// Copies key and value into one new allocation. The copy is deliberate: a `Bytes` from the
    /// network is a view that would keep a far larger receive buffer alive without being charged
    /// for it.
    pub(crate) fn new(times: Times, version: u64, key: &[u8], value: &[u8]) -> Record {
        let version_len = version_len(version);
        let len = HEAD + version_len + key.len() + value.len();
        let mut shared = ThinArc::from_header_and_iter((), iter::repeat_n(0, len));
        shared.with_arc_mut(|shared| {
            let shared = Arc::get_mut(shared).expect("the only reference");
            let mut left = shared.slice_mut();
            let parts = [
                &times.stored_at.as_millis().to_le_bytes()[..FRESH],
                &times.fresh_for_ms.to_le_bytes(),
                &times.keep_for_ms.to_le_bytes(),
                &version.to_le_bytes()[..version_len],
                key,
                value,
            ];
            for part in parts {
                let (place, rest) = left.split_at_mut(part.len());
                place.copy_from_slice(part);
                left = rest;
            }
        });
        Record(shared)
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[inline]
    pub(crate) fn times(&self) -> Times {
        let head: &[u8; HEAD] = self.bytes().first_chunk().expect("every record has a head");
        let [s0, s1, s2, s3, s4, s5, f0, f1, f2, f3, k0, k1, k2, k3] = *head;
        Times {
            stored_at: Tick::from_millis(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0])),
            fresh_for_ms: u32::from_le_bytes([f0, f1, f2, f3]),
            keep_for_ms: u32::from_le_bytes([k0, k1, k2, k3]),
        }
    }

    /// The version, which is stored in `version_len` bytes.
    #[inline]
    pub(crate) fn version(&self, version_len: usize) -> u64 {
        let from = &self.bytes()[HEAD..];
        // Read eight bytes and mask those after the version: cheaper than a copy of variable
        // length.
        if let Some(eight) = from.first_chunk() {
            return u64::from_le_bytes(*eight) & (u64::MAX >> (64 - 8 * version_len));
        }
        let mut eight = [0; 8];
        eight[..version_len].copy_from_slice(&from[..version_len]);
        u64::from_le_bytes(eight)
    }

    #[inline]
    pub(crate) fn key(&self, version_len: usize, key_len: usize) -> &[u8] {
        let from = HEAD + version_len;
        &self.bytes()[from..from + key_len]
    }

    /// The bytes from `from` on; see [`value_at`].
    pub(crate) fn value(&self, from: usize) -> &[u8] {
        &self.bytes()[from..]
    }
}

/// Offset of the value within a record.
pub(crate) fn value_at(version_len: usize, key_len: usize) -> usize {
    HEAD + version_len + key_len
}

/// Number of bytes in which a version is stored, 1 to 8.
pub(crate) fn version_len(version: u64) -> usize {
    (version | 1).ilog2() as usize / 8 + 1
}

/// Bytes of process memory that a record uses.
pub(crate) fn cost(version_len: usize, key_len: usize, value_len: usize) -> u64 {
    allocated(SHARED_BYTES + (value_at(version_len, key_len) + value_len) as u64)
}

/// Bytes that glibc's allocator uses for an allocation of `bytes`: one word in front, rounded up to
/// a multiple of 16 and at least 32, or two words and whole pages.
const fn allocated(bytes: u64) -> u64 {
    if bytes >= MAPPED_BYTES {
        return (bytes + 16).next_multiple_of(PAGE_BYTES);
    }
    let rounded = (bytes + 8).next_multiple_of(16);
    if rounded < 32 { 32 } else { rounded }
}

fn life_ms(from: Tick, until: Tick) -> u32 {
    if until == Tick::NEVER {
        return FOREVER_MS;
    }
    u32::try_from(until.millis_since(from)).unwrap_or(FOREVER_MS).min(FOREVER_MS - 1)
}

fn ends(from: Tick, life_ms: u32) -> Tick {
    if life_ms == FOREVER_MS { Tick::NEVER } else { from.after_millis(u64::from(life_ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read_back_for_every_length_of_the_version() {
        for (version, len) in [(0, 1), (255, 1), (256, 2), (1 << 24, 4), (u64::MAX, 8)] {
            let at = Tick::from_millis(123_456_789_012);
            let times = Times::new(at, at.after_millis(5), at.after_millis(70_000));
            let record = Record::new(times, version, b"key", b"value");
            assert_eq!(version_len(version), len);
            assert_eq!((record.version(len), record.key(len, 3)), (version, &b"key"[..]));
            assert_eq!(record.value(value_at(len, 3)), b"value");
            let back = record.times();
            assert_eq!((back.stored_at(), back.life_ms()), (at, 70_000));
            assert_eq!(back.fresh_until(), at.after_millis(5));
        }
    }

    #[test]
    fn a_time_beyond_48_bits_is_stored_as_the_maximum() {
        let times = Times::new(Tick::NEVER, Tick::NEVER, Tick::NEVER);
        let record = Record::new(times, 1, b"", b"");
        assert_eq!(record.times().stored_at().as_millis(), (1 << STORED_BITS) - 1);
        assert_eq!(record.times().keep_until(), Tick::NEVER);
    }

    #[test]
    fn an_allocation_costs_its_size_class_or_its_pages() {
        assert_eq!([1, 24, 25, 40, 41].map(allocated), [32, 32, 48, 48, 64]);
        assert_eq!(allocated(65_536), 65_552);
        assert_eq!(allocated(MAPPED_BYTES), MAPPED_BYTES + PAGE_BYTES);
    }
}
