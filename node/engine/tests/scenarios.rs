//! Scenarios that the cache must handle correctly.

use bytes::Bytes;
use larder_engine::{
    Cache, Cause, Group, GroupOptions, NewEntry, Options, PolicyKind, Refused, Tags, Tick, Value,
    weight,
};

const NOW: Tick = Tick::from_millis(1_000_000);

fn cache(capacity_bytes: u64, shards: usize) -> Cache {
    Cache::new(Options { capacity_bytes, shards: Some(shards), ..Options::default() })
}

fn entry(len: usize) -> NewEntry {
    let value = Value::Present(Bytes::from(vec![7; len]));
    NewEntry::new(value, Tick::NEVER, Tick::NEVER, 1)
}

fn fill(group: &Group, keys: std::ops::Range<u32>, len: usize) {
    for key in keys {
        group.insert(&key.to_be_bytes(), &entry(len), None, NOW).expect("a small entry");
    }
}

fn hits(group: &Group, keys: std::ops::Range<u32>) -> usize {
    keys.filter(|key| group.get(&key.to_be_bytes(), NOW).is_some()).count()
}

#[test]
fn a_load_started_before_an_invalidation_is_not_stored_after_it() {
    let group = cache(1 << 20, 4).add_group("g", GroupOptions::default()).unwrap();
    let before = group.begin_load();
    assert!(!group.invalidate(b"k"));
    assert_eq!(group.insert(b"k", &entry(1), Some(before), NOW), Err(Refused::Fenced));
    let after = group.begin_load();
    assert_eq!(group.insert(b"k", &entry(1), Some(after), NOW), Ok(()));
}

#[test]
fn a_load_started_before_a_clear_is_not_stored_after_it() {
    let group = cache(1 << 20, 4).add_group("g", GroupOptions::default()).unwrap();
    let before = group.begin_load();
    group.clear();
    for key in 0..100u32 {
        let result = group.insert(&key.to_be_bytes(), &entry(1), Some(before), NOW);
        assert_eq!(result, Err(Refused::Fenced));
    }
}

#[test]
fn invalidations_racing_with_loads_leave_no_outdated_value() {
    // The origin is a counter, and an invalidation follows each change of it. Under any
    // interleaving, a value that is cached at the end is the origin's latest.
    use std::sync::atomic::{AtomicU64, Ordering};
    let group = cache(1 << 20, 1).add_group("g", GroupOptions::default()).unwrap();
    for round in 0..2_000u64 {
        let origin = AtomicU64::new(round);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                origin.store(round + 1, Ordering::SeqCst);
                group.invalidate(b"k");
            });
            let fence = group.begin_load();
            let value = Bytes::copy_from_slice(&origin.load(Ordering::SeqCst).to_be_bytes());
            let new = NewEntry::new(Value::Present(value), Tick::NEVER, Tick::NEVER, round);
            let _stored_or_refused = group.insert(b"k", &new, Some(fence), NOW);
        });
        if let Some(hit) = group.get(b"k", NOW) {
            let expected = (round + 1).to_be_bytes();
            assert_eq!(hit.bytes(), Some(&expected[..]));
        }
    }
}

#[test]
fn absent_is_distinct_from_empty_and_can_be_invalidated() {
    let group = cache(1 << 20, 1).add_group("g", GroupOptions::default()).unwrap();
    let absent = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 1);
    group.insert(b"no", &absent, None, NOW).unwrap();
    group.insert(b"empty", &entry(0), None, NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(group.get(b"no", NOW).unwrap().value(), Value::Absent);
        assert_eq!(group.get(b"empty", NOW).unwrap().value(), Value::Present(Bytes::new()));
    }
    assert!(group.invalidate(b"no"));
    assert!(group.get(b"no", NOW).is_none());
    group.insert(b"no", &absent, None, NOW).unwrap();
    group.insert(b"no", &entry(3), None, NOW).unwrap();
    assert_eq!(group.get(b"no", NOW).unwrap().value().len(), 3);
}

#[test]
fn a_flood_of_absent_keys_evicts_no_values() {
    let group = cache(1 << 20, 1).add_group("g", GroupOptions::default()).unwrap();
    let count = u32::try_from((1u64 << 20) * 8 / 10 / weight(4, 100)).unwrap();
    fill(&group, 0..count, 100);
    for key in 1_000_000..1_100_000u32 {
        let absent = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 1);
        group.insert(&key.to_be_bytes(), &absent, None, NOW).unwrap();
    }
    assert_eq!(hits(&group, 0..count), count as usize);
    assert!(group.stats().absent_bytes <= (1 << 20) * 5 / 100);
}

#[test]
fn reads_check_expiry_and_the_sweep_frees_the_memory() {
    let cache = cache(1 << 20, 2);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    for key in 0..500u32 {
        let until = NOW.after_millis(u64::from(key) * 10);
        let new = NewEntry::new(Value::Present(Bytes::from_static(b"v")), NOW, until, 1);
        group.insert(&key.to_be_bytes(), &new, None, NOW).unwrap();
    }
    let later = NOW.after_millis(2_500);
    let alive = (0..500u32).filter(|key| group.peek(&key.to_be_bytes(), later).is_some()).count();
    assert_eq!(alive, 250);
    let swept = cache.sweep(later.after_millis(256), 10_000);
    assert!(swept.expired >= 250 && !swept.more, "{swept:?}");
    assert!(group.len() <= 250);
}

#[test]
fn a_reduction_of_the_capacity_evicts_in_small_steps() {
    let cache = cache(4 << 20, 1);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    fill(&group, 0..20_000, 100);
    let before = group.len();
    cache.set_capacity(1 << 20);
    assert_eq!(group.len(), before, "the reduction itself evicts nothing");
    fill(&group, 20_000..20_001, 100);
    assert!(before - group.len() <= 66, "one insert evicts two, and the first one 64 more");
    let before = group.len();
    fill(&group, 20_001..20_002, 100);
    assert!(before - group.len() <= 2, "one insert evicts two, not {}", before - group.len());
    assert!(cache.sweep(NOW, 100).more);
    while cache.sweep(NOW, 1_000).more {}
    assert!(cache.bytes() <= 1 << 20);
}

#[test]
fn clearing_a_million_keys_frees_their_memory_in_bounded_steps() {
    // Checked without a clock: the clear itself frees nothing, and each sweep frees at most its
    // budget.
    let cache = cache(1 << 30, 16);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    fill(&group, 0..1_000_000, 0);
    group.clear();
    assert_eq!(hits(&group, 0..1_000), 0);
    assert_eq!((group.len(), group.bytes()), (0, 0));
    let swept = cache.sweep(NOW, 10_000);
    assert!(swept.more && (10_000..10_256).contains(&swept.buried), "{swept:?}");
    while cache.sweep(NOW, 100_000).more {}
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_removes_the_older_value() {
    let options = Options { capacity_bytes: 1 << 20, shards: Some(1), ..Options::default() };
    let cache = Cache::new(Options { max_entry_bytes: 1_000, ..options });
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    group.insert(b"k", &entry(10), None, NOW).unwrap();
    assert_eq!(group.insert(b"k", &entry(2_000), None, NOW), Err(Refused::TooLarge));
    assert!(group.get(b"k", NOW).is_none());
    assert_eq!(group.stats().refused_too_large, 1);
    let long = vec![0; 70_000];
    assert_eq!(group.insert(&long, &entry(1), None, NOW), Err(Refused::KeyTooLong));
}

#[test]
fn an_entry_that_is_too_large_and_invalidated_by_tag_keeps_the_newer_value() {
    let options = Options { capacity_bytes: 1 << 20, shards: Some(1), ..Options::default() };
    let cache = Cache::new(Options { max_entry_bytes: 1_000, ..options });
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    let fence = group.begin_load();
    group.invalidate_tag(b"t");
    group.insert(b"k", &entry(10).tagged(Tags::from_iter(["t"])), None, NOW).unwrap();
    let late = entry(2_000).tagged(Tags::from_iter(["t"]));
    assert_eq!(group.insert(b"k", &late, Some(fence), NOW), Err(Refused::Fenced));
    assert!(group.get(b"k", NOW).is_some());
}

#[test]
fn a_removed_group_finds_nothing_and_refuses_late_inserts() {
    let cache = cache(1 << 20, 2);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    group.insert(b"k", &entry(1), None, NOW).unwrap();
    assert!(cache.add_group("g", GroupOptions::default()).is_err());
    assert!(cache.remove_group("g"));
    assert!(group.get(b"k", NOW).is_none());
    assert_eq!(group.insert(b"k", &entry(1), None, NOW), Err(Refused::Closed));
    assert!(cache.group("g").is_none() && !cache.remove_group("g"));
    assert!(cache.add_group("g", GroupOptions::default()).is_ok());
}

#[test]
fn a_scanning_group_uses_only_the_capacity_that_its_neighbour_leaves() {
    let cache = cache(4 << 20, 4);
    let hot = cache.add_group("hot", GroupOptions::default()).unwrap();
    let scan = cache.add_group("scan", GroupOptions::default()).unwrap();
    let count = u32::try_from((4u64 << 20) * 3 / 10 / weight(4, 100)).unwrap();
    fill(&hot, 0..count, 100);
    for round in 0..20 {
        fill(&scan, round * 10_000..(round + 1) * 10_000, 100);
        cache.sweep(NOW, 1_000);
        assert_eq!(hits(&hot, 0..count), count as usize, "round {round}");
        assert!(cache.bytes() <= 4 << 20);
    }
    assert!(scan.bytes() > 2 << 20, "idle capacity is lent: {}", scan.bytes());
}

#[test]
fn a_group_gets_lent_capacity_back_as_it_grows() {
    let cache = cache(4 << 20, 1);
    let borrower = cache.add_group("borrower", GroupOptions::default()).unwrap();
    fill(&borrower, 0..100_000, 100);
    assert!(borrower.bytes() > (4 << 20) * 95 / 100);
    let owner = cache.add_group("owner", GroupOptions::default()).unwrap();
    for key in 0..100_000u32 {
        owner.insert(&key.to_be_bytes(), &entry(100), None, NOW).unwrap();
        assert!(cache.bytes() <= 4 << 20);
    }
    assert!(owner.bytes() > (2 << 20) * 95 / 100, "{}", owner.bytes());
}

/// Inserts `count` keys with values of `len` bytes, sweeping as a member does. Returns how many of
/// the last half were refused, and how many of the last twenty are stored.
fn insert_slowly(cache: &Cache, group: &Group, count: u32, new: &NewEntry) -> (usize, usize) {
    let mut refused = 0;
    for key in 0..count {
        let result = group.insert(&key.to_be_bytes(), new, None, NOW);
        refused += usize::from(key >= count / 2 && result.is_err());
        // Several sweeps pass between two inserts.
        for _ in 0..4 {
            while cache.sweep(NOW, 1_000).more {}
            assert!(cache.bytes() <= cache.capacity_bytes());
        }
    }
    (refused, hits(group, count - 20..count))
}

#[test]
fn a_group_stores_values_larger_than_the_share_that_a_full_neighbour_leaves() {
    let cache = cache(16 << 20, 16);
    let holder = cache.add_group("holder", GroupOptions::default()).unwrap();
    fill(&holder, 0..200_000, 100);
    assert!(holder.bytes() > (16 << 20) * 9 / 10);
    // The share of an empty group is 64 KiB: 4 KiB in each shard.
    let large = cache.add_group("large", GroupOptions::default()).unwrap();
    assert_eq!(insert_slowly(&cache, &large, 60, &entry(20 << 10)), (0, 20));
    large.clear();
    fill(&holder, 0..200_000, 100);
    assert_eq!(insert_slowly(&cache, &large, 60, &entry(20 << 10)), (0, 20));
    assert!(holder.bytes() > (16 << 20) / 2, "{} left to the holder", holder.bytes());
    cache.validate();
}

#[test]
fn a_group_stores_absent_keys_longer_than_the_share_that_a_full_neighbour_leaves() {
    let cache = cache(16 << 20, 16);
    let holder = cache.add_group("holder", GroupOptions::default()).unwrap();
    fill(&holder, 0..200_000, 100);
    let absent = cache.add_group("absent", GroupOptions::default()).unwrap();
    let new = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 1);
    // 5 % of 4 KiB.
    let key = [7; 1_000];
    let stored = (0..10).filter(|_| {
        while cache.sweep(NOW, 1_000).more {}
        absent.insert(&key, &new, None, NOW).is_ok() && absent.get(&key, NOW).is_some()
    });
    assert!(stored.count() >= 7);
}

#[test]
fn a_value_that_no_share_can_hold_takes_nothing_from_the_other_groups() {
    let cache = cache(16 << 20, 16);
    let holder = cache.add_group("holder", GroupOptions::default()).unwrap();
    fill(&holder, 0..200_000, 100);
    let before = holder.bytes();
    let bounded = GroupOptions { max_bytes: Some(1 << 20), ..GroupOptions::default() };
    let large = cache.add_group("large", bounded).unwrap();
    assert_eq!(insert_slowly(&cache, &large, 40, &entry(100 << 10)), (20, 0));
    assert!(holder.bytes() > before - (256 << 10), "{} of {before}", holder.bytes());
}

#[test]
fn a_policy_parses_from_its_name_in_a_cache_group() {
    for &kind in PolicyKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    let error = "lru2".parse::<PolicyKind>().unwrap_err();
    assert_eq!(error.to_string(), "unknown policy \"lru2\"");
}

#[test]
fn hottest_first_lists_the_hottest_entry_first_and_no_expired_ones() {
    let group = cache(1 << 20, 1).add_group("g", GroupOptions::default()).unwrap();
    fill(&group, 0..100, 10);
    let dead = NewEntry::new(Value::Present(Bytes::new()), NOW, NOW, 1);
    group.insert(b"dead", &dead, None, NOW).unwrap();
    for _ in 0..3 {
        assert!(group.get(&42u32.to_be_bytes(), NOW).is_some());
    }
    let mut keys = Vec::new();
    group.hottest_first(NOW.after_millis(1), 10, |key, hit| {
        assert_eq!(hit.value().len(), 10);
        keys.push(key.to_vec());
    });
    assert_eq!(keys.len(), 10);
    assert_eq!(keys[0], 42u32.to_be_bytes());
}

#[test]
fn an_invalidation_by_tag_affects_only_entries_and_late_inserts_with_the_tag() {
    let cache = cache(1 << 20, 4);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    for key in 0..100u32 {
        let tag = if key % 2 == 0 { "even" } else { "odd" };
        let new = entry(10).tagged(Tags::from_iter(["all", tag]));
        group.insert(&key.to_be_bytes(), &new, None, NOW).unwrap();
    }
    fill(&group, 100..200, 10);
    let fence = group.begin_load();
    group.invalidate_tag(b"even");
    assert_eq!((hits(&group, 0..100), hits(&group, 100..200)), (50, 100));
    let late = entry(10).tagged(Tags::from_iter(["even"]));
    assert_eq!(group.insert(b"late", &late, Some(fence), NOW), Err(Refused::Fenced));
    let other = entry(10).tagged(Tags::from_iter(["other"]));
    assert_eq!(group.insert(b"late", &other, Some(fence), NOW), Ok(()));
    let fresh = group.begin_load();
    assert_eq!(group.insert(&0u32.to_be_bytes(), &late, Some(fresh), NOW), Ok(()));
    assert_eq!(hits(&group, 0..100), 51);
    group.invalidate_tag(b"all");
    assert_eq!(hits(&group, 0..100), 1);
    group.validate();
}

#[test]
fn a_listener_is_called_once_per_removal_with_its_cause() {
    use std::sync::Arc;

    use parking_lot::Mutex;

    let cache = cache(1 << 20, 1);
    let group = cache.add_group("g", GroupOptions::default()).unwrap();
    type Removals = Mutex<Vec<(Vec<u8>, Cause)>>;
    let removals: Arc<Removals> = Arc::default();
    let (log, probe) = (Arc::clone(&removals), group.clone());
    group.set_listener(Arc::new(move |key: &[u8], value: &Value, cause: Cause| {
        assert_eq!(value.len(), 1);
        // No lock is held, so the listener can read from the cache.
        let _any = probe.peek(key, NOW);
        log.lock().push((key.to_vec(), cause));
    }));
    let short = NewEntry::new(Value::Present("x".into()), NOW, NOW, 1);
    for key in ["replaced", "invalidated", "expired", "cleared"] {
        group.insert(key.as_bytes(), &short, None, NOW).unwrap();
    }
    group.insert(b"replaced", &entry(1), None, NOW).unwrap();
    group.invalidate(b"invalidated");
    group.insert(b"cleared", &entry(1), None, NOW).unwrap();
    cache.sweep(NOW.after_millis(1_000), 100);
    group.clear();
    cache.sweep(NOW.after_millis(1_000), 100);
    let mut removals = removals.lock().clone();
    removals.sort();
    let expected = [
        ("cleared", Cause::Replaced),
        ("cleared", Cause::Invalidated),
        ("expired", Cause::Expired),
        ("invalidated", Cause::Invalidated),
        ("replaced", Cause::Replaced),
        ("replaced", Cause::Invalidated),
    ];
    assert_eq!(removals, expected.map(|(key, cause)| (key.as_bytes().to_vec(), cause)));
}

#[test]
fn hot_keys_lists_the_hottest_key_with_its_rate() {
    let group = cache(1 << 20, 4).add_group("g", GroupOptions::default()).unwrap();
    // 10,000 reads per second for half a minute, every second one of a single key.
    for read in 0..300_000u32 {
        let now = NOW.after_millis(u64::from(read) / 10);
        let key = if read % 2 == 0 { u32::MAX } else { read };
        let _hit_or_miss = group.get(&key.to_be_bytes(), now);
    }
    let top = group.hot_keys(NOW.after_millis(30_000), 3);
    assert_eq!(top[0].key, u32::MAX.to_be_bytes());
    let rate = top[0].reads_per_second;
    assert!((3_000.0..6_000.0).contains(&rate), "about 5,000 per second: {rate}");
}

#[test]
fn a_hit_has_the_tags_of_its_entry_and_another_cache_can_store_them() {
    let (first, second) = (cache(1 << 20, 1), cache(1 << 20, 4));
    let [owner, copies] =
        [first, second].map(|cache| cache.add_group("g", GroupOptions::default()).unwrap());
    owner.insert(b"k", &entry(10).tagged(Tags::from_iter(["a", "b"])), None, NOW).unwrap();
    owner.insert(b"plain", &entry(10), None, NOW).unwrap();
    assert_eq!(owner.get(b"plain", NOW).unwrap().tags, Tags::default());
    let hit = owner.get(b"k", NOW).unwrap();
    assert_eq!(hit.tags, Tags::from_iter(["a", "b"]));
    assert_eq!(hit.tags, owner.peek(b"k", NOW).unwrap().tags);

    let sent = Tags::from_slots(hit.tags.slots().iter().copied().map(u32::from));
    copies.insert(b"k", &entry(10).tagged(sent), None, NOW).unwrap();
    copies.invalidate_tag(b"c");
    assert!(copies.get(b"k", NOW).is_some());
    copies.invalidate_tag(b"b");
    assert_eq!(copies.get(b"k", NOW), None);
    // Numbers from elsewhere may be anything.
    let wrong = entry(10).tagged(Tags::from_slots([u32::MAX, 70_000]));
    copies.insert(b"k", &wrong, None, NOW).unwrap();
    assert!(copies.get(b"k", NOW).is_some());
}

#[test]
fn an_entry_from_elsewhere_does_not_replace_a_later_load() {
    let group = cache(1 << 20, 4).add_group("g", GroupOptions::default()).unwrap();
    let of_load = |version, len| {
        NewEntry::new(Value::Present(vec![0; len].into()), Tick::NEVER, Tick::NEVER, version)
    };
    let insert = |new: NewEntry| group.insert(b"k", &new, None, NOW);
    let version = || group.peek(b"k", NOW).unwrap().version;
    insert(of_load(5, 10)).unwrap();
    for version in [4, 5] {
        assert_eq!(insert(of_load(version, 10).unless_outdated()), Err(Refused::Outdated));
    }
    let too_large = of_load(4, 2 << 20).unless_outdated();
    assert_eq!(insert(too_large), Err(Refused::Outdated));
    assert_eq!(version(), 5);
    insert(of_load(6, 10).unless_outdated()).unwrap();
    assert_eq!(version(), 6);
    insert(of_load(2, 10)).expect("a load of this process always replaces");
}

#[test]
fn places_name_every_entry_once_the_most_valuable_first() {
    let options = GroupOptions { policy: PolicyKind::Lru, ..GroupOptions::default() };
    let group = cache(8 << 20, 4).add_group("g", options).unwrap();
    fill(&group, 0..1_000, 10);
    let absent = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 1);
    group.insert(b"absent", &absent, None, NOW).unwrap();
    assert_eq!(hits(&group, 100..200), 100);
    let places = group.places();
    let keys: Vec<_> = places.iter().map(|at| group.entry_at(*at, NOW).unwrap().0).collect();
    let unique: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), unique.len()), (1_001, 1_001));
    let hot = |key: &[u8]| (100..200u32).any(|hot| hot.to_be_bytes() == key);
    let hot_first = keys[..100].iter().filter(|key| hot(key)).count();
    assert!(hot_first > 70, "{hot_first} of the first 100 were read last");

    group.invalidate(&keys[0]);
    assert_eq!(group.entry_at(places[0], NOW), None);
    group.clear();
    assert!(places.iter().all(|at| group.key_at(*at, |_| ()).is_none()));
}
