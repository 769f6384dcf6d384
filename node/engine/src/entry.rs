//! Owns the shape of one entry: what callers hand in, what they get back, what is kept between,
//! and what it weighs. It never decides whether an entry stays. Start at [`Entry::pack`].

use bytes::Bytes;

use crate::tags::{self, TAGGED_BYTES};
use crate::tick::Tick;

/// Keys are at most this long; the slot keeps the length in two bytes.
pub const MAX_KEY_BYTES: usize = u16::MAX as usize;

/// What the engine charges for a slot beside key and value: the slab's node (88 bytes, asserted in
/// `slab.rs`) and its place in the hash table (a 4-byte index and a control byte, at the table's
/// mean load of two thirds).
pub(crate) const SLOT_BYTES: u64 = 88 + 8;

/// Key and value live behind a shared, counted buffer: `bytes` keeps a 24-byte header for it in an
/// allocation of its own.
const SHARED_HEADER_BYTES: u64 = 24;

/// What a key stands for. Absent is an answer ("the origin has no such key"), not an error, and
/// not the same as an empty value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// The origin has this value.
    Present(Bytes),
    /// The origin said that it has none.
    Absent,
}

impl Value {
    /// The value's bytes, if the origin has any.
    #[must_use]
    pub fn present(&self) -> Option<&Bytes> {
        match self {
            Value::Present(bytes) => Some(bytes),
            Value::Absent => None,
        }
    }

    /// Length in bytes; an absent value has none.
    #[must_use]
    pub fn len(&self) -> usize {
        self.present().map_or(0, Bytes::len)
    }

    /// True for an empty present value and for an absent one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One answer from the cache. Whether it is fresh is the caller's judgement: the engine reports
/// times and only withholds what is past `keep_until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The value, sharing the cache's own buffer.
    pub value: Value,
    /// When it was stored.
    pub stored_at: Tick,
    /// Until when it may be answered without a reload.
    pub fresh_until: Tick,
    /// Until when it may be answered at all (stale windows included).
    pub keep_until: Tick,
    /// The version that its writer gave.
    pub version: u64,
}

/// What [`Group::insert`](crate::Group::insert) stores.
#[derive(Clone, Debug)]
pub struct NewEntry {
    pub(crate) value: Value,
    pub(crate) fresh_until: Tick,
    pub(crate) keep_until: Tick,
    pub(crate) version: u64,
    pub(crate) stored_at: Option<Tick>,
    /// Places of its tags; see `tags.rs`.
    pub(crate) tags: Box<[u16]>,
}

impl NewEntry {
    /// An entry that is fresh until `fresh_until` and may be answered until `keep_until`.
    ///
    /// A life above 49 days is cut to that (it is kept in 32 bits of milliseconds);
    /// [`Tick::NEVER`] is kept as it is.
    #[must_use]
    pub fn new(value: Value, fresh_until: Tick, keep_until: Tick, version: u64) -> NewEntry {
        let tags = Box::default();
        NewEntry { value, fresh_until, keep_until, version, stored_at: None, tags }
    }

    /// Ties the entry to tags: [`Group::invalidate_tag`](crate::Group::invalidate_tag) with any of
    /// them removes it.
    #[must_use]
    pub fn tagged<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> NewEntry {
        self.tags = tags.into_iter().map(|tag| tags::place(tag.as_ref())).collect();
        self
    }

    /// Keeps the age of an entry that was stored earlier (a hand-over, a restored snapshot).
    #[must_use]
    pub fn stored_at(mut self, at: Tick) -> NewEntry {
        self.stored_at = Some(at);
        self
    }

    /// Bytes that it is charged under a key of this length.
    pub(crate) fn weight(&self, key_len: usize) -> u64 {
        let tags = self.tags.len() as u64;
        let tagged = if tags == 0 { 0 } else { TAGGED_BYTES + tags * 2 };
        weight(key_len, self.value.len()) + tagged
    }
}

/// A life of this many milliseconds never ends.
const FOREVER_MS: u32 = u32::MAX;

/// `flags`.
const ABSENT: u8 = 1;
const TAGGED: u8 = 2;

/// One resident entry as it lies in its slot. Key and value share one buffer, so that an entry
/// costs one allocation of known size and a hit is a counted view into it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The key's bytes, then the value's.
    buffer: Bytes,
    stored_at: Tick,
    version: u64,
    fresh_for_ms: u32,
    keep_for_ms: u32,
    /// Bytes charged; what [`weight`] says, kept because policies read it often.
    pub(crate) weight: u32,
    key_len: u16,
    flags: u8,
    /// A byte for the policy (a small counter or a mark); nobody else reads it.
    pub(crate) heat: u8,
}

impl Entry {
    /// Copies key and value into one buffer of their own. The copy is deliberate: a `Bytes` that
    /// arrived from the network is a view that would keep a far larger receive buffer alive, and
    /// the budget would not see it. `None` if the key is longer than [`MAX_KEY_BYTES`] or the
    /// weight does not fit 32 bits.
    pub(crate) fn pack(key: &[u8], new: &NewEntry, now: Tick) -> Option<Entry> {
        let key_len = u16::try_from(key.len()).ok()?;
        let weight = u32::try_from(new.weight(key.len())).ok()?;
        let mut joined = Vec::with_capacity(key.len() + new.value.len());
        joined.extend_from_slice(key);
        let tagged = if new.tags.is_empty() { 0 } else { TAGGED };
        let flags = match &new.value {
            Value::Present(bytes) => {
                joined.extend_from_slice(bytes);
                tagged
            }
            Value::Absent => tagged | ABSENT,
        };
        // The first clone of a `Bytes` made from a `Vec` allocates its shared header. Doing it
        // here means that no hit does.
        let unshared = Bytes::from(joined);
        let buffer = unshared.clone();
        let stored_at = new.stored_at.unwrap_or(now);
        Some(Entry {
            buffer,
            stored_at,
            version: new.version,
            fresh_for_ms: life_ms(stored_at, new.fresh_until),
            keep_for_ms: life_ms(stored_at, new.keep_until.max(new.fresh_until)),
            weight,
            key_len,
            flags,
            heat: 0,
        })
    }

    /// What lies in a free slot: nothing, and no allocation.
    pub(crate) const fn vacant() -> Entry {
        Entry {
            buffer: Bytes::new(),
            stored_at: Tick::ZERO,
            version: 0,
            fresh_for_ms: 0,
            keep_for_ms: 0,
            weight: 0,
            key_len: 0,
            flags: 0,
            heat: 0,
        }
    }

    /// An entry in miniature (`curve.rs`): it weighs and lives like a real one, and holds nothing.
    pub(crate) fn outlined(weight: u32, is_absent: bool, life_ms: u32, now: Tick) -> Entry {
        let flags = if is_absent { ABSENT } else { 0 };
        Entry { weight, flags, keep_for_ms: life_ms, stored_at: now, ..Entry::vacant() }
    }

    /// The whole life, in ms, as `outlined` takes it.
    pub(crate) fn life_ms(&self) -> u32 {
        self.keep_for_ms
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.buffer[..usize::from(self.key_len)]
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.flags & ABSENT != 0
    }

    pub(crate) fn is_tagged(&self) -> bool {
        self.flags & TAGGED != 0
    }

    pub(crate) fn value(&self) -> Value {
        if self.is_absent() {
            Value::Absent
        } else {
            Value::Present(self.buffer.slice(usize::from(self.key_len)..))
        }
    }

    pub(crate) fn fresh_until(&self) -> Tick {
        ends(self.stored_at, self.fresh_for_ms)
    }

    pub(crate) fn keep_until(&self) -> Tick {
        ends(self.stored_at, self.keep_for_ms)
    }

    /// An entry may be answered up to and including its last millisecond.
    pub(crate) fn is_over(&self, now: Tick) -> bool {
        now > self.keep_until()
    }

    pub(crate) fn hit(&self) -> Hit {
        Hit {
            value: self.value(),
            stored_at: self.stored_at,
            fresh_until: self.fresh_until(),
            keep_until: self.keep_until(),
            version: self.version,
        }
    }
}

/// Bytes that an entry with a key and a value of these lengths is charged: its slot, and its two
/// allocations rounded as allocators round.
#[must_use]
pub fn weight(key_len: usize, value_len: usize) -> u64 {
    let payload = key_len as u64 + value_len as u64;
    SLOT_BYTES + allocated(SHARED_HEADER_BYTES) + allocated(payload)
}

/// What an allocation of `bytes` costs: a header word and 16-byte steps as in glibc, which up to
/// 1 KiB also bounds the size classes of mimalloc and jemalloc; above, an eighth of the power of
/// two below, their usual class width.
const fn allocated(bytes: u64) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let with_header = bytes + 8;
    let step = if with_header <= 1024 { 16 } else { 1 << (with_header.ilog2() - 4) };
    let rounded = with_header.next_multiple_of(step);
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

    fn entry(key: &[u8], value: Value, fresh: u64, keep: Tick) -> Entry {
        let new = NewEntry::new(value, Tick::from_millis(fresh), keep, 7);
        Entry::pack(key, &new, Tick::from_millis(100)).expect("a small key")
    }

    #[test]
    fn absent_is_not_an_empty_value() {
        let empty = entry(b"k", Value::Present(Bytes::new()), 200, Tick::NEVER);
        let absent = entry(b"k", Value::Absent, 200, Tick::NEVER);
        assert_eq!(empty.value(), Value::Present(Bytes::new()));
        assert_eq!(absent.value(), Value::Absent);
    }

    #[test]
    fn a_value_is_a_view_of_the_entrys_own_buffer() {
        let entry = entry(b"key", Value::Present(Bytes::from_static(b"value")), 200, Tick::NEVER);
        let (one, two) = (entry.value(), entry.value());
        let (one, two) = (one.present().expect("present"), two.present().expect("present"));
        assert_eq!(&one[..], b"value");
        assert_eq!(one.as_ptr(), two.as_ptr());
    }

    #[test]
    fn a_life_without_end_stays_so_and_a_long_one_is_cut() {
        let forever = entry(b"k", Value::Absent, u64::MAX, Tick::NEVER);
        assert_eq!(forever.fresh_until(), Tick::NEVER);
        let long = entry(b"k", Value::Absent, 1 << 40, Tick::from_millis(1 << 41));
        assert!(long.keep_until() < Tick::NEVER);
        assert!(long.keep_until().as_millis() > 49 * 24 * 3_600_000);
    }

    #[test]
    fn an_entry_is_answered_through_its_last_millisecond() {
        let entry = entry(b"k", Value::Absent, 150, Tick::from_millis(200));
        assert!(!entry.is_over(Tick::from_millis(200)));
        assert!(entry.is_over(Tick::from_millis(201)));
    }

    #[test]
    fn a_key_longer_than_the_slot_can_say_is_not_packed() {
        let new = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 0);
        assert!(Entry::pack(&vec![0; MAX_KEY_BYTES + 1], &new, Tick::ZERO).is_none());
        assert!(Entry::pack(&vec![0; MAX_KEY_BYTES], &new, Tick::ZERO).is_some());
    }
}
