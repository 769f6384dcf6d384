//! Entries that leave this process and enter another: by a hand-over, as a replica, or in a
//! snapshot. Their life, version and tags stay as they are.

use std::sync::Arc;

use bytes::Bytes;
use larder_engine::{Fence, Hit, NewEntry, Refused, Tags, Tick, Value};
use larder_proto::v1::StoredEntry;

use super::group::Group;
use super::shared::Cache;

/// Stores entries that another process loaded into the main store of one group.
///
/// Begin before the other process is asked for them: an invalidation from then on keeps the entries
/// out.
pub(crate) struct Import {
    cache: Cache,
    group: Arc<Group>,
    fence: Fence,
}

impl Cache {
    /// `None` if this member has no such group, or if the group loads from an origin other than
    /// `origin_id`.
    pub(crate) fn begin_import(&self, group: &str, origin_id: u64) -> Option<Import> {
        let group = self.0.groups.load().get(group)?.clone();
        let fence = group.begin_load(&group.main)?;
        (group.origin_id == origin_id).then(|| Import { cache: self.clone(), group, fence })
    }
}

impl Import {
    /// Only entries of this origin may be stored.
    pub(super) fn origin_id(&self) -> u64 {
        self.group.origin_id
    }

    /// Stores an entry, unless its life is over, or the group holds an entry of the same or a later
    /// load. Its life counts from `read_ms` on this member's clock: not later than the other process
    /// read it, and negative before this process began. True if it is stored.
    pub(crate) fn store(&self, entry: &StoredEntry, read_ms: i64) -> bool {
        let now_ms = self.cache.0.clock.now_ms();
        let limits = &self.cache.0.limits;
        let is_allowed =
            self.cache.check_key(&entry.key).is_ok() && entry.value.len() <= limits.max_value_bytes;
        let Some(new) = to_new(entry, read_ms, now_ms).filter(|_| is_allowed) else { return false };
        self.cache.0.versions.saw(entry.version);
        let now = Tick::from_millis(now_ms);
        let stored = self.group.main.insert(&entry.key, &new, Some(self.fence), now);
        stored.inspect_err(|refused| self.log(*refused)).is_ok()
    }

    fn log(&self, refused: Refused) {
        tracing::debug!(group = %self.group.name, kind = refused.kind(), "entry not imported");
    }
}

/// An entry for another process.
pub(crate) fn to_stored(key: &[u8], mut hit: Hit, now_ms: u64) -> StoredEntry {
    let tags = std::mem::take(&mut hit.tags);
    let until = |end: Tick| end.as_millis().saturating_sub(now_ms);
    let overdue_ms = now_ms.saturating_sub(hit.fresh_until.as_millis());
    let fresh_ms = signed(until(hit.fresh_until)) - signed(overdue_ms);
    StoredEntry {
        key: Bytes::copy_from_slice(key),
        absent: hit.is_absent(),
        age_ms: now_ms.saturating_sub(hit.stored_at.as_millis()),
        fresh_ms,
        keep_ms: until(hit.keep_until),
        version: hit.version,
        tag_slots: tags.slots().iter().copied().map(u32::from).collect(),
        value: hit.into_value().present().cloned().unwrap_or_default(),
    }
}

/// `None` if its life is over, or if its freshness ended before this process's clock starts: the
/// stale windows could not be measured from there.
fn to_new(entry: &StoredEntry, read_ms: i64, now_ms: u64) -> Option<NewEntry> {
    let keep_until_ms = u64::try_from(read_ms.saturating_add_unsigned(entry.keep_ms)).ok()?;
    let fresh_until_ms = u64::try_from(read_ms.saturating_add(entry.fresh_ms)).ok()?;
    if keep_until_ms <= now_ms {
        return None;
    }
    let value = if entry.absent { Value::Absent } else { Value::Present(entry.value.clone()) };
    let stored_at_ms = u64::try_from(read_ms.saturating_sub_unsigned(entry.age_ms)).unwrap_or(0);
    let fresh_until = Tick::from_millis(fresh_until_ms.min(keep_until_ms));
    let tags = Tags::from_slots(entry.tag_slots.iter().copied());
    let new = NewEntry::new(value, fresh_until, Tick::from_millis(keep_until_ms), entry.version);
    Some(new.tagged(tags).stored_at(Tick::from_millis(stored_at_ms)).unless_outdated())
}

/// Times beyond 292 million years are as good as that.
pub(crate) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use larder_engine::{Cache, GroupOptions, Options};

    use super::*;

    const NOW_MS: u64 = 10_000;

    fn stored(fresh_until_ms: u64) -> StoredEntry {
        let group =
            Cache::new(Options::default()).add_group("g", GroupOptions::default()).expect("new");
        let at = Tick::from_millis;
        let new = NewEntry::new(Value::Present("1".into()), at(fresh_until_ms), at(12_000), 7)
            .tagged(Tags::from_iter(["t"]))
            .stored_at(at(9_000));
        group.insert(b"k", &new, None, at(NOW_MS)).expect("stored");
        to_stored(b"k", group.peek(b"k", at(NOW_MS)).expect("held"), NOW_MS)
    }

    #[test]
    fn an_entry_keeps_its_life_its_version_and_its_tags() {
        let entry = stored(11_000);
        assert_eq!((entry.age_ms, entry.fresh_ms, entry.keep_ms), (1_000, 1_000, 2_000));
        assert_eq!((&*entry.value, entry.version, entry.tag_slots.len()), (&b"1"[..], 7, 1));
        let later_ms = 50_000;
        let new = to_new(&entry, signed(later_ms), later_ms).expect("alive");
        let expected = NewEntry::new(
            Value::Present("1".into()),
            Tick::from_millis(51_000),
            Tick::from_millis(52_000),
            7,
        )
        .tagged(Tags::from_iter(["t"]))
        .stored_at(Tick::from_millis(49_000))
        .unless_outdated();
        assert_eq!(format!("{new:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_stale_entry_stays_as_stale_as_it_is() {
        let entry = stored(9_500);
        assert_eq!((entry.fresh_ms, entry.keep_ms), (-500, 2_000));
        assert!(
            to_new(&entry, 400, 400).is_none(),
            "its freshness ended before this clock started"
        );
        assert!(to_new(&entry, 500, 500).is_some());
    }

    #[test]
    fn an_entry_at_its_end_is_not_stored() {
        assert!(
            to_new(&StoredEntry { keep_ms: 0, ..stored(11_000) }, signed(NOW_MS), NOW_MS).is_none()
        );
    }

    #[test]
    fn the_time_on_the_way_counts() {
        let entry = stored(11_000);
        assert!(to_new(&entry, 20_000, 21_999).is_some());
        assert!(to_new(&entry, 20_000, 22_000).is_none());
    }

    #[test]
    fn the_time_away_counts() {
        let entry =
            StoredEntry { age_ms: 5, fresh_ms: 100, keep_ms: 300, ..StoredEntry::default() };
        let at = Tick::from_millis;
        // Read 50 ms before this process began, and 150 ms ago.
        let later = to_new(&entry, -50, 100).expect("alive");
        let expected = NewEntry::new(Value::Present(Bytes::new()), at(50), at(250), 0)
            .stored_at(at(0))
            .unless_outdated();
        assert_eq!(format!("{later:?}"), format!("{expected:?}"));
        assert!(to_new(&entry, -50, 249).is_some());
        assert!(to_new(&entry, -50, 250).is_none());
    }
}
