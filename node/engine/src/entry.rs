//! Owns the shape of one entry: what callers hand in, what they get back, what is kept between,
//! and what it weighs. It never decides whether an entry stays. Start at [`Entry::pack`].

use std::fmt;

use bytes::Bytes;

use crate::record::{self, Record, Times};
use crate::tags::{self, TAGGED_BYTES};
use crate::tick::Tick;

/// Keys are at most this long; the slot keeps the length in two bytes.
pub const MAX_KEY_BYTES: usize = u16::MAX as usize;

/// What the engine charges for a slot beside the record: the slab's node (40 bytes, asserted in
/// `slab.rs`) and its place in the hash table (a 4-byte index and a control byte, at the table's
/// mean load of two thirds).
pub(crate) const SLOT_BYTES: u64 = 40 + 8;

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
    /// Nothing if the entry is an absent one.
    view: Option<View>,
    /// When it was stored.
    pub stored_at: Tick,
    /// Until when it may be answered without a reload.
    pub fresh_until: Tick,
    /// Until when it may be answered at all (stale windows included).
    pub keep_until: Tick,
    /// The version that its writer gave.
    pub version: u64,
}

impl Hit {
    /// The value's bytes in the cache's own memory, if the origin has any.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.view.as_ref().map(AsRef::as_ref)
    }

    /// True if the origin said that it has none.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.view.is_none()
    }

    /// The value, sharing the cache's own memory. Copies none of its bytes; what makes them a
    /// `Bytes` is an allocation of 32 bytes.
    #[must_use]
    pub fn value(&self) -> Value {
        self.clone().into_value()
    }

    /// As [`Hit::value`], of a hit that is no longer needed.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.view.map_or(Value::Absent, |view| Value::Present(Bytes::from_owner(view)))
    }
}

/// A value's bytes within its record.
#[derive(Clone)]
struct View {
    record: Record,
    from: u32,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.record.value(self.from as usize)
    }
}

impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for View {}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes)", self.as_ref().len())
    }
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
        let version_len = record::version_len(self.version);
        SLOT_BYTES + record::cost(version_len, key_len, self.value.len()) + tagged
    }
}

/// `flags`: marks, and from [`VERSION_LEN`] on how many bytes the version takes.
const ABSENT: u8 = 1;
const TAGGED: u8 = 2;
const VERSION_LEN: u32 = 4;

/// One resident entry as it lies in its slot: what policies and lists ask for. Everything else is
/// in its record, so that an entry costs one allocation of known size.
pub(crate) struct Entry {
    /// Nothing in a free slot.
    record: Option<Record>,
    /// Bytes charged; what [`NewEntry::weight`] says, kept because policies read it often.
    pub(crate) weight: u32,
    key_len: u16,
    flags: u8,
    /// A byte for the policy (a small counter or a mark); nobody else reads it.
    pub(crate) heat: u8,
}

impl Entry {
    /// Copies key and value into one record. `None` if the key is longer than [`MAX_KEY_BYTES`]
    /// or the weight does not fit 32 bits.
    pub(crate) fn pack(key: &[u8], new: &NewEntry, now: Tick) -> Option<Entry> {
        let key_len = u16::try_from(key.len()).ok()?;
        let weight = u32::try_from(new.weight(key.len())).ok()?;
        let times = Times::new(new.stored_at.unwrap_or(now), new.fresh_until, new.keep_until);
        let value = new.value.present().map_or(&[][..], |bytes| bytes);
        let record = Some(Record::new(times, new.version, key, value));
        let tagged = if new.tags.is_empty() { 0 } else { TAGGED };
        let absent = if new.value == Value::Absent { ABSENT } else { 0 };
        let flags = tagged | absent | version_flags(new.version);
        Some(Entry { record, weight, key_len, flags, heat: 0 })
    }

    /// What lies in a free slot: nothing, and no allocation.
    pub(crate) const fn vacant() -> Entry {
        Entry { record: None, weight: 0, key_len: 0, flags: 0, heat: 0 }
    }

    /// An entry in miniature (`curve.rs`): it weighs and lives like a real one, and holds no key
    /// and no value.
    pub(crate) fn outlined(weight: u32, is_absent: bool, life_ms: u32, now: Tick) -> Entry {
        let flags = version_flags(0) | if is_absent { ABSENT } else { 0 };
        let record = Some(Record::new(Times::outlined(now, life_ms), 0, b"", b""));
        Entry { record, weight, flags, ..Entry::vacant() }
    }

    /// Bytes that a miniature's record takes.
    pub(crate) fn outlined_bytes() -> u64 {
        record::cost(1, 0, 0)
    }

    #[inline]
    fn record(&self) -> &Record {
        self.record.as_ref().expect("only occupied slots are looked at")
    }

    fn version_len(&self) -> usize {
        usize::from(self.flags >> VERSION_LEN)
    }

    /// The whole life, in ms, as `outlined` takes it.
    pub(crate) fn life_ms(&self) -> u32 {
        self.record().times().life_ms()
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.record().key(self.version_len(), usize::from(self.key_len))
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.flags & ABSENT != 0
    }

    pub(crate) fn is_tagged(&self) -> bool {
        self.flags & TAGGED != 0
    }

    pub(crate) fn keep_until(&self) -> Tick {
        self.record().times().keep_until()
    }

    /// An entry may be answered up to and including its last millisecond.
    pub(crate) fn is_over(&self, now: Tick) -> bool {
        now > self.keep_until()
    }

    #[inline]
    pub(crate) fn hit(&self) -> Hit {
        let record = self.record();
        let (times, version) = (record.times(), record.version(self.version_len()));
        let from = record::value_at(self.version_len(), usize::from(self.key_len));
        let from = u32::try_from(from).expect("a key's length has 16 bits");
        Hit {
            view: (!self.is_absent()).then(|| View { record: record.clone(), from }),
            stored_at: times.stored_at(),
            fresh_until: times.fresh_until(),
            keep_until: times.keep_until(),
            version,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("weight", &self.weight).finish_non_exhaustive()
    }
}

fn version_flags(version: u64) -> u8 {
    u8::try_from(record::version_len(version)).expect("1 to 8") << VERSION_LEN
}

/// Bytes that an entry with a key and a value of these lengths is charged: its slot, and its
/// record rounded as the allocator rounds. A version above 255 takes up to seven bytes more.
#[must_use]
pub fn weight(key_len: usize, value_len: usize) -> u64 {
    SLOT_BYTES + record::cost(1, key_len, value_len)
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
        assert_eq!(empty.hit().value(), Value::Present(Bytes::new()));
        assert_eq!(absent.hit().value(), Value::Absent);
        assert!(absent.hit().is_absent() && !empty.hit().is_absent());
    }

    #[test]
    fn a_value_is_a_view_of_the_entrys_own_memory() {
        let entry = entry(b"key", Value::Present(Bytes::from_static(b"value")), 200, Tick::NEVER);
        let (hit, value) = (entry.hit(), entry.hit().into_value());
        drop(entry);
        let (bytes, value) = (hit.bytes().expect("present"), value.present().expect("present"));
        assert_eq!(bytes, b"value");
        assert_eq!(bytes.as_ptr(), value.as_ptr());
    }

    #[test]
    fn a_life_without_end_stays_so_and_a_long_one_is_cut() {
        let forever = entry(b"k", Value::Absent, u64::MAX, Tick::NEVER);
        assert_eq!(forever.hit().fresh_until, Tick::NEVER);
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
