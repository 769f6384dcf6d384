//! Entries: what callers insert, what reads return, what is stored in between, and the weight of an
//! entry. Never decides whether an entry is kept. Start at [`Entry::pack`].

use std::fmt;

use bytes::Bytes;

use crate::record::{self, Record, Times};
use crate::tags::{TAGGED_BYTES, Tags};
use crate::tick::Tick;

/// Maximum length of a key. The slot stores the length in two bytes.
pub const MAX_KEY_BYTES: usize = u16::MAX as usize;

/// Bytes charged for a slot in addition to the record: the slab's node (40 bytes, asserted in
/// `slab.rs`) and its bucket in the hash table (a 4-byte index and a control byte, at the table's
/// mean load of two thirds).
pub(crate) const SLOT_BYTES: u64 = 40 + 8;

/// The value of a key. Absent is an answer ("the origin has no such key"). It is neither an error
/// nor an empty value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// The origin has this value.
    Present(Bytes),
    /// The origin has no such key.
    Absent,
}

impl Value {
    /// The value's bytes; `None` if the key is absent.
    #[must_use]
    pub fn present(&self) -> Option<&Bytes> {
        match self {
            Value::Present(bytes) => Some(bytes),
            Value::Absent => None,
        }
    }

    /// Length in bytes; 0 if absent.
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

/// The result of a read that found an entry. The caller decides whether it is fresh: the engine
/// returns the times and only withholds entries past `keep_until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// `None` if the key is absent at the origin.
    view: Option<View>,
    /// When the value was stored.
    pub stored_at: Tick,
    /// Until when the value may be served without a reload.
    pub fresh_until: Tick,
    /// Until when the value may be served at all, including the stale windows.
    pub keep_until: Tick,
    /// The version given by the writer.
    pub version: u64,
    /// The tags given by the writer.
    pub tags: Tags,
}

impl Hit {
    /// The value's bytes in the cache's own memory; `None` if absent.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.view.as_ref().map(AsRef::as_ref)
    }

    /// True if the key is absent at the origin.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.view.is_none()
    }

    /// The value, sharing the cache's own memory. Copies no bytes of the value, but allocates 32
    /// bytes for the `Bytes`.
    #[must_use]
    pub fn value(&self) -> Value {
        self.clone().into_value()
    }

    /// Like [`Hit::value`], but consumes the hit.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.view.map_or(Value::Absent, |view| Value::Present(Bytes::from_owner(view)))
    }
}

/// The bytes of a value inside its record.
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

/// An entry to be stored by [`Group::insert`](crate::Group::insert).
#[derive(Clone, Debug)]
pub struct NewEntry {
    pub(crate) value: Value,
    pub(crate) fresh_until: Tick,
    pub(crate) keep_until: Tick,
    pub(crate) version: u64,
    pub(crate) stored_at: Option<Tick>,
    pub(crate) tags: Tags,
    pub(crate) unless_outdated: bool,
}

impl NewEntry {
    /// An entry that is fresh until `fresh_until` and may be served until `keep_until`.
    ///
    /// A life of more than 49 days is shortened to 49 days, because it is stored as 32 bits of
    /// milliseconds. [`Tick::NEVER`] is stored as such.
    #[must_use]
    pub fn new(value: Value, fresh_until: Tick, keep_until: Tick, version: u64) -> NewEntry {
        NewEntry {
            value,
            fresh_until,
            keep_until,
            version,
            stored_at: None,
            tags: Tags::default(),
            unless_outdated: false,
        }
    }

    /// Adds tags. [`Group::invalidate_tag`](crate::Group::invalidate_tag) with any of them removes
    /// the entry.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> NewEntry {
        self.tags = tags;
        self
    }

    /// Sets the time of an entry that was first stored earlier, as in a handover or a restored
    /// snapshot.
    #[must_use]
    pub fn stored_at(mut self, at: Tick) -> NewEntry {
        self.stored_at = Some(at);
        self
    }

    /// Does not replace an entry of the same or a larger version:
    /// [`Refused::Outdated`](crate::Refused::Outdated).
    #[must_use]
    pub fn unless_outdated(mut self) -> NewEntry {
        self.unless_outdated = true;
        self
    }

    /// Bytes charged for this entry with a key of this length.
    pub(crate) fn weight(&self, key_len: usize) -> u64 {
        let tags = self.tags.slots().len() as u64;
        let tagged = if tags == 0 { 0 } else { TAGGED_BYTES + tags * 2 };
        let version_len = record::version_len(self.version);
        SLOT_BYTES + record::cost(version_len, key_len, self.value.len()) + tagged
    }
}

/// Bits of `flags`. The bits from [`VERSION_LEN`] on hold the length of the version in bytes.
const ABSENT: u8 = 1;
const TAGGED: u8 = 2;
const VERSION_LEN: u32 = 4;

/// The part of a resident entry that is stored in its slot: the fields that policies and lists
/// need. Everything else is in the record, so an entry costs one allocation of known size.
pub(crate) struct Entry {
    /// `None` in a free slot.
    record: Option<Record>,
    /// Bytes charged, from [`NewEntry::weight`]. Stored because policies read it often.
    pub(crate) weight: u32,
    key_len: u16,
    flags: u8,
    /// A small counter or mark, used only by the policy.
    pub(crate) heat: u8,
}

impl Entry {
    /// Copies key and value into one record. Returns `None` if the key is longer than
    /// [`MAX_KEY_BYTES`] or the weight does not fit into 32 bits.
    pub(crate) fn pack(key: &[u8], new: &NewEntry, now: Tick) -> Option<Entry> {
        let key_len = u16::try_from(key.len()).ok()?;
        let weight = u32::try_from(new.weight(key.len())).ok()?;
        let times = Times::new(new.stored_at.unwrap_or(now), new.fresh_until, new.keep_until);
        let value = new.value.present().map_or(&[][..], |bytes| bytes);
        let record = Some(Record::new(times, new.version, key, value));
        let tagged = if new.tags.slots().is_empty() { 0 } else { TAGGED };
        let absent = if new.value == Value::Absent { ABSENT } else { 0 };
        let flags = tagged | absent | version_flags(new.version);
        Some(Entry { record, weight, key_len, flags, heat: 0 })
    }

    /// The content of a free slot, without an allocation.
    pub(crate) const fn vacant() -> Entry {
        Entry { record: None, weight: 0, key_len: 0, flags: 0, heat: 0 }
    }

    /// An entry of a miniature (`curve.rs`): it has the weight and life of a real entry, but no key
    /// and no value.
    pub(crate) fn outlined(weight: u32, is_absent: bool, life_ms: u32, now: Tick) -> Entry {
        let flags = version_flags(0) | if is_absent { ABSENT } else { 0 };
        let record = Some(Record::new(Times::outlined(now, life_ms), 0, b"", b""));
        Entry { record, weight, flags, ..Entry::vacant() }
    }

    /// Size in bytes of the record of a miniature's entry.
    pub(crate) fn outlined_bytes() -> u64 {
        record::cost(1, 0, 0)
    }

    #[inline]
    fn record(&self) -> &Record {
        self.record.as_ref().expect("only occupied slots are accessed")
    }

    fn version_len(&self) -> usize {
        usize::from(self.flags >> VERSION_LEN)
    }

    /// The whole life in milliseconds, as an argument for `outlined`.
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

    /// An entry may be served up to and including its last millisecond.
    pub(crate) fn is_over(&self, now: Tick) -> bool {
        now > self.keep_until()
    }

    /// A hit without tags, which the store keeps.
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
            tags: Tags::default(),
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

/// Bytes charged for an entry with a key and a value of these lengths: its slot, and its record
/// rounded up as the allocator does. A version above 255 takes up to seven bytes more.
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
    fn a_value_shares_the_memory_of_its_entry() {
        let entry = entry(b"key", Value::Present(Bytes::from_static(b"value")), 200, Tick::NEVER);
        let (hit, value) = (entry.hit(), entry.hit().into_value());
        drop(entry);
        let (bytes, value) = (hit.bytes().expect("present"), value.present().expect("present"));
        assert_eq!(bytes, b"value");
        assert_eq!(bytes.as_ptr(), value.as_ptr());
    }

    #[test]
    fn an_endless_life_is_kept_and_a_long_life_is_shortened() {
        let forever = entry(b"k", Value::Absent, u64::MAX, Tick::NEVER);
        assert_eq!(forever.hit().fresh_until, Tick::NEVER);
        let long = entry(b"k", Value::Absent, 1 << 40, Tick::from_millis(1 << 41));
        assert!(long.keep_until() < Tick::NEVER);
        assert!(long.keep_until().as_millis() > 49 * 24 * 3_600_000);
    }

    #[test]
    fn an_entry_may_be_served_through_its_last_millisecond() {
        let entry = entry(b"k", Value::Absent, 150, Tick::from_millis(200));
        assert!(!entry.is_over(Tick::from_millis(200)));
        assert!(entry.is_over(Tick::from_millis(201)));
    }

    #[test]
    fn a_key_longer_than_the_maximum_is_not_packed() {
        let new = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 0);
        assert!(Entry::pack(&vec![0; MAX_KEY_BYTES + 1], &new, Tick::ZERO).is_none());
        assert!(Entry::pack(&vec![0; MAX_KEY_BYTES], &new, Tick::ZERO).is_some());
    }
}
