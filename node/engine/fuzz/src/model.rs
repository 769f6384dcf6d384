//! A naive model of a cache. A listener reports removals, so the model knows exactly which entries
//! the cache holds. It checks every result, refusal and counter, and that every removal has a cause
//! that the operation allows.
//!
//! The model does not predict what a policy evicts. It only requires that evictions are reported
//! and sufficient.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use larder_engine::{
    Cache, Cause, Fence, Group, GroupOptions, Hit, NewEntry, Options, Refused, Tick, Value, weight,
};
use parking_lot::Mutex;

use crate::operations::{Fill, GROUPS, Input, Op};

/// Capacity for about a hundred small entries.
const CAPACITY: u64 = 30_000;
const MAX_ENTRY_BYTES: u64 = 6_000;
/// Bytes of empty ghost slots ("graves") that a policy may keep per shard. They can exceed a tiny
/// limit.
const GRAVES_BYTES: u64 = 66 * 16;
const START: Tick = Tick::from_millis(5_000);

/// Builds the cache and applies all operations, checking all counters after every step.
///
/// # Panics
/// If the cache and the model differ, which is a bug in one of them.
pub(crate) fn run(input: &Input) {
    let mut model = Model::new(input);
    for &op in &input.ops {
        model.apply(op);
        model.check_accounts();
    }
    model.settle();
    model.sides.iter_mut().for_each(Side::clear);
    model.settle();
    assert!(model.sides.iter().all(|side| side.buried.is_empty()), "every removal is reported");
}

#[derive(Debug)]
struct Stored {
    value: Value,
    keep_until: Tick,
    version: u64,
    tag: Option<u8>,
    /// True if its tag was invalidated.
    dead: bool,
}

#[derive(Debug)]
struct Load {
    key: u8,
    fence: Fence,
    /// True if its key or its group was invalidated after its start.
    overtaken: bool,
    /// Tags invalidated after its start.
    tags: Vec<u8>,
}

/// Removals reported by the listener.
type Reports = Arc<Mutex<Vec<(u8, Value, Cause)>>>;

/// One group and its model.
struct Side {
    group: Group,
    reports: Reports,
    held: BTreeMap<u8, Stored>,
    /// Keys of cleared entries whose removal was not reported yet; a key can occur several times.
    buried: Vec<u8>,
    loads: Vec<Load>,
    counts: BTreeMap<Cause, u64>,
    cleared: u64,
    stored: u64,
}

/// The removals that an operation may cause.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allows {
    Nothing,
    /// Evictions, and the freeing of cleared entries.
    Room,
    /// These, and the expiry of entries at this time.
    Housekeeping(Tick),
}

impl Side {
    fn new(cache: &Cache, name: u8, options: GroupOptions) -> Side {
        let group = cache.add_group(&name.to_string(), options).expect("a free name");
        let reports: Reports = Arc::default();
        let log = Arc::clone(&reports);
        group.set_listener(Arc::new(move |key: &[u8], value: &Value, cause: Cause| {
            log.lock().push((key[0], value.clone(), cause));
        }));
        let (held, counts) = (BTreeMap::new(), BTreeMap::new());
        let (buried, loads) = (Vec::new(), Vec::new());
        Side { group, reports, held, buried, loads, counts, cleared: 0, stored: 0 }
    }

    fn clear(&mut self) {
        self.group.clear();
        self.forget();
    }

    /// Models a clear of the group. The removals are reported later.
    fn forget(&mut self) {
        self.cleared += self.held.len() as u64;
        self.buried.extend(std::mem::take(&mut self.held).into_keys());
        self.loads.iter_mut().for_each(|load| load.overtaken = true);
    }

    /// Requires that the next reported removal is this one.
    fn expect(&mut self, key: u8, cause: Cause) {
        let report = self.reports.lock().remove(0);
        let stored = self.held.remove(&key).expect("the removed entry was held");
        assert_eq!(report, (key, stored.value, cause));
        *self.counts.entry(cause).or_default() += 1;
    }

    /// Applies the reported removals. Each must be one that the operation allows.
    fn apply_reports(&mut self, allows: Allows) {
        for (key, value, cause) in std::mem::take(&mut *self.reports.lock()) {
            assert!(allows != Allows::Nothing, "{key} was removed: {cause:?}");
            if cause == Cause::Invalidated {
                let place = self.buried.iter().position(|&other| other == key);
                self.buried.swap_remove(place.expect("only cleared entries are freed later"));
                continue;
            }
            let stored = self.held.remove(&key).expect("the removed entry was held");
            assert_eq!(value, stored.value);
            match (cause, allows) {
                (Cause::Evicted, _) => {}
                (Cause::Expired, Allows::Housekeeping(now)) => assert!(now > stored.keep_until),
                _ => panic!("{key} was removed: {cause:?}"),
            }
            *self.counts.entry(cause).or_default() += 1;
        }
    }

    fn check_hit(&self, key: u8, hit: Option<Hit>, now: Tick) {
        let answers = |stored: &&Stored| !stored.dead && now <= stored.keep_until;
        let expected = self.held.get(&key).filter(answers);
        let seen = hit.map(|hit| (hit.value(), hit.version, hit.keep_until));
        let expected = expected.map(|s| (s.value.clone(), s.version, s.keep_until));
        assert_eq!(seen, expected, "key {key}");
    }

    fn check_accounts(&self) {
        let stats = self.group.stats();
        let reported = |cause| self.counts.get(&cause).copied().unwrap_or(0);
        assert_eq!(stats.entries, self.held.len() as u64);
        assert_eq!(stats.insertions, self.stored);
        assert_eq!(stats.replaced, reported(Cause::Replaced));
        assert_eq!(stats.evicted + stats.evicted_absent, reported(Cause::Evicted));
        assert_eq!(stats.expired, reported(Cause::Expired));
        assert_eq!(stats.invalidated, reported(Cause::Invalidated));
        assert_eq!(stats.cleared, self.cleared);
        assert_eq!(stats.bytes, self.group.bytes());
        let weights = |only: fn(&Value) -> bool| -> u64 {
            let counted = self.held.values().filter(|stored| only(&stored.value));
            counted.map(|stored| weight(1, stored.value.len())).sum()
        };
        assert!(stats.bytes >= weights(|_| true), "{stats:?}");
        assert!(stats.absent_bytes >= weights(|value| *value == Value::Absent), "{stats:?}");
    }
}

struct Model {
    cache: Cache,
    sides: Vec<Side>,
    shards: u64,
    now: Tick,
    version: u64,
    /// False from a reduction of the capacity or a change of options until sweeps have caught up.
    fits: bool,
}

impl Model {
    fn new(input: &Input) -> Model {
        let cache = Cache::new(Options {
            capacity_bytes: CAPACITY,
            shards: Some(input.shards),
            max_entry_bytes: MAX_ENTRY_BYTES,
            ..Options::default()
        });
        let options = GroupOptions { policy: input.policy, absent_percent: 30, ..<_>::default() };
        let sides = (0..GROUPS).map(|name| Side::new(&cache, name, options.clone())).collect();
        let shards = input.shards as u64;
        Model { cache, sides, shards, now: START, version: 0, fits: true }
    }

    fn side(&mut self, group: u8) -> &mut Side {
        &mut self.sides[usize::from(group)]
    }

    fn apply_reports(&mut self, allows: Allows) {
        self.sides.iter_mut().for_each(|side| side.apply_reports(allows));
    }

    fn insert(&mut self, fill: Fill, load: Option<&Load>) {
        self.version += 1;
        let (version, now) = (self.version, self.now);
        let value = fill.len.map(|len| Value::Present(Bytes::from(vec![fill.key; len])));
        let value = value.unwrap_or(Value::Absent);
        let keep_until = fill.life_ms.map_or(Tick::NEVER, |ms| now.after_millis(ms));
        let new = NewEntry::new(value.clone(), now, keep_until, version);
        let new = new.tagged(fill.tag.map(|tag| [tag]).into_iter().collect());
        let late = load.is_some_and(|load| {
            load.overtaken || fill.tag.is_some_and(|tag| load.tags.contains(&tag))
        });
        let side = self.side(fill.group);
        let fence = load.map(|load| load.fence);
        let result = side.group.insert(&[fill.key], &new, fence, now);
        assert!(!late || result == Err(Refused::Fenced), "a late load: {result:?}");
        if result != Err(Refused::Fenced) && side.held.contains_key(&fill.key) {
            side.expect(fill.key, Cause::Replaced);
        }
        match result {
            Ok(()) => {
                let stored = Stored { value, keep_until, version, tag: fill.tag, dead: false };
                side.held.insert(fill.key, stored);
                side.stored += 1;
            }
            // If a neighbour is under pressure, the limit of a shard can be close to nothing.
            Err(Refused::TooLarge) => {}
            Err(refused) => assert_eq!((refused, load.is_some()), (Refused::Fenced, true)),
        }
        self.apply_reports(Allows::Room);
    }

    fn remake(&mut self, group: u8) {
        let side = self.side(group);
        let (name, options) = (side.group.name().to_owned(), side.group.options());
        assert!(self.cache.remove_group(&name));
        let removed = &self.sides[usize::from(group)].group;
        let late = NewEntry::new(Value::Absent, Tick::NEVER, Tick::NEVER, 0);
        assert_eq!(removed.insert(&[0], &late, None, self.now), Err(Refused::Closed));
        assert!(removed.is_empty());
        self.side(group).forget();
        // Free the old group's entries before it is replaced: the model has one account per group.
        self.settle();
        assert!(self.side(group).buried.is_empty());
        self.sides[usize::from(group)] = Side::new(&self.cache, group, options);
    }

    fn settle(&mut self) {
        let rounds = (0..1_000).take_while(|_| self.cache.sweep(self.now, 100_000).more).count();
        assert!(rounds < 1_000, "housekeeping terminates");
        self.apply_reports(Allows::Housekeeping(self.now));
        self.fits = true;
        for Side { group, .. } in &self.sides {
            let stats = group.stats();
            let tiny = stats.limit_bytes < 4 * GRAVES_BYTES * self.shards;
            let graves = if tiny { GRAVES_BYTES * self.shards } else { 0 };
            let most = stats.limit_bytes + graves;
            assert!(stats.bytes <= most || stats.entries == 0, "{stats:?}");
        }
    }

    fn update(&mut self, group: u8, options: GroupOptions) {
        self.side(group).group.update(options);
        self.apply_reports(Allows::Nothing);
    }

    fn apply(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Get { group, key } => {
                let side = self.side(group);
                side.check_hit(key, side.group.peek(&[key], now), now);
                side.check_hit(key, side.group.get(&[key], now), now);
            }
            Op::Insert(fill) => self.insert(fill, None),
            Op::BeginLoad { group, key } => {
                let side = self.side(group);
                let (fence, tags) = (side.group.begin_load(), Vec::new());
                side.loads.push(Load { key, fence, overtaken: false, tags });
            }
            Op::EndLoad { fill } => {
                let loads = &mut self.side(fill.group).loads;
                if !loads.is_empty() {
                    let load = loads.remove(0);
                    self.insert(Fill { key: load.key, ..fill }, Some(&load));
                }
            }
            Op::Invalidate { group, key } => self.invalidate(group, key),
            Op::InvalidateTag { group, tag } => self.invalidate_tag(group, tag),
            Op::Clear { group } => self.side(group).clear(),
            Op::Remake { group } => self.remake(group),
            Op::Pass { ms } => self.now = now.after_millis(ms),
            Op::Sweep { budget } => {
                self.cache.sweep(now, budget);
                self.apply_reports(Allows::Housekeeping(now));
            }
            Op::Settle => self.settle(),
            Op::Capacity { bytes } => {
                self.fits &= bytes >= self.cache.capacity_bytes();
                self.cache.set_capacity(bytes);
            }
            Op::Policy { group, policy } => {
                self.fits = false;
                let options = self.side(group).group.options();
                self.update(group, GroupOptions { policy, ..options });
            }
            Op::Bounds { group, min, max, absent_percent } => {
                let options = self.side(group).group.options();
                let max_bytes = Some(max).filter(|&max| max > 0);
                self.fits = false;
                self.update(
                    group,
                    GroupOptions { min_bytes: min, max_bytes, absent_percent, ..options },
                );
            }
            Op::Hottest { group, max } => self.check_hottest(group, max),
        }
        self.apply_reports(Allows::Nothing);
    }

    fn invalidate(&mut self, group: u8, key: u8) {
        let side = self.side(group);
        let held = side.held.contains_key(&key);
        assert_eq!(side.group.invalidate(&[key]), held);
        if held {
            side.expect(key, Cause::Invalidated);
        }
        let same = side.loads.iter_mut().filter(|load| load.key == key);
        same.for_each(|load| load.overtaken = true);
    }

    fn invalidate_tag(&mut self, group: u8, tag: u8) {
        let side = self.side(group);
        side.group.invalidate_tag(&[tag]);
        side.loads.iter_mut().for_each(|load| load.tags.push(tag));
        let tied = side.held.values_mut().filter(|stored| stored.tag == Some(tag));
        tied.for_each(|stored| stored.dead = true);
    }

    fn check_hottest(&mut self, group: u8, max: usize) {
        let now = self.now;
        let side = self.side(group);
        let mut seen = Vec::new();
        side.group.hottest_first(now, max, |key, hit| {
            assert!(!hit.is_absent(), "only present entries are listed");
            side.check_hit(key[0], Some(hit), now);
            seen.push(key[0]);
        });
        assert!(seen.len() <= max);
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each key is listed once: {seen:?}");
    }

    fn check_accounts(&self) {
        self.cache.validate();
        self.sides.iter().for_each(Side::check_accounts);
        let bytes: u64 = self.sides.iter().map(|side| side.group.bytes()).sum();
        assert_eq!(self.cache.bytes(), bytes);
        // Without entries, a policy's own memory may exceed a tiny capacity.
        let bare = self.sides.iter().any(|side| side.held.is_empty());
        let capacity = self.cache.capacity_bytes();
        let graves = GRAVES_BYTES * self.shards * u64::from(GROUPS);
        let most = if capacity < CAPACITY { capacity + graves } else { capacity };
        assert!(!self.fits || bare || bytes <= most, "{bytes} of {capacity}");
        for Side { group, .. } in self.sides.iter().filter(|_| self.fits) {
            let (stats, options) = (group.stats(), group.options());
            let room = options.max_bytes.unwrap_or(capacity).min(capacity);
            let quota = room * u64::from(options.absent_percent.min(100)) / 100;
            assert!(stats.absent_bytes <= quota, "{quota}: {stats:?}");
        }
    }
}
