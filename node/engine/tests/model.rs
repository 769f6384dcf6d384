//! The cache beside a naive model, under random operations: what it answers was stored, lives, and
//! was not invalidated since; what it holds fits; nothing leaves but by a named cause.

use std::collections::HashMap;

use bytes::Bytes;
use larder_engine::{
    Cache, Fence, Group, GroupOptions, NewEntry, Options, PolicyKind, Refused, Tick, Value, weight,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Get(u8),
    Insert { key: u8, len: u16, fresh: u16, extra: u16, absent: bool },
    BeginLoad(u8),
    EndLoad,
    Invalidate(u8),
    Clear,
    Pass(u16),
    Sweep(u8),
    Capacity(u16),
    Policy(u8),
}

fn any_op() -> impl Strategy<Value = Op> {
    let insert = (any::<u8>(), 0..900u16, 0..3_000u16, 0..3_000u16, prop::bool::weighted(0.2));
    prop_oneof![
        8 => any::<u8>().prop_map(Op::Get),
        8 => insert.prop_map(|(key, len, fresh, extra, absent)| {
            Op::Insert { key, len, fresh, extra, absent }
        }),
        2 => any::<u8>().prop_map(Op::BeginLoad),
        2 => Just(Op::EndLoad),
        2 => any::<u8>().prop_map(Op::Invalidate),
        1 => Just(Op::Clear),
        2 => (0..2_000u16).prop_map(Op::Pass),
        1 => any::<u8>().prop_map(Op::Sweep),
        1 => (0..60_000u16).prop_map(Op::Capacity),
        1 => any::<u8>().prop_map(Op::Policy),
    ]
}

struct Stored {
    value: Value,
    keep_until: Tick,
    version: u64,
}

/// What may be in the cache; what must not be is what matters.
struct Model {
    cache: Cache,
    group: Group,
    now: Tick,
    may_hold: HashMap<u8, Stored>,
    loads: Vec<(u8, Fence, bool)>,
    version: u64,
}

impl Model {
    fn new(policy: PolicyKind, shards: usize) -> Model {
        let shards = Some(shards);
        let cache = Cache::new(Options { capacity_bytes: 20_000, shards, ..Options::default() });
        let options = GroupOptions { policy, absent_percent: 30, ..GroupOptions::default() };
        let group = cache.add_group("g", options).expect("the first group");
        let (now, may_hold) = (Tick::from_millis(5_000), HashMap::new());
        Model { cache, group, now, may_hold, loads: Vec::new(), version: 0 }
    }

    fn check_get(&mut self, key: u8) {
        let Some(hit) = self.group.get(&[key], self.now) else { return };
        let stored = self.may_hold.get(&key).expect("an answer was stored and not invalidated");
        assert_eq!((hit.value, hit.version), (stored.value.clone(), stored.version));
        assert_eq!(hit.keep_until, stored.keep_until);
        assert!(self.now <= hit.keep_until, "an answer past its life");
    }

    fn insert(&mut self, key: u8, value: Value, fresh: u16, extra: u16, fence: Option<Fence>) {
        self.version += 1;
        let fresh_until = self.now.after_millis(u64::from(fresh));
        let keep_until = fresh_until.after_millis(u64::from(extra));
        let entry = NewEntry::new(value.clone(), fresh_until, keep_until, self.version);
        match self.group.insert(&[key], &entry, fence, self.now) {
            Ok(()) => {
                self.may_hold.insert(key, Stored { value, keep_until, version: self.version });
            }
            Err(Refused::TooLarge) => {
                self.may_hold.remove(&key);
                assert!(self.group.peek(&[key], self.now).is_none(), "outdated entries go");
            }
            Err(refused) => assert_eq!((refused, fence.is_some()), (Refused::Fenced, true)),
        }
    }

    fn end_load(&mut self) {
        let Some((key, fence, overtaken)) = self.loads.pop() else { return };
        let before = self.group.stats().refused_fenced;
        self.insert(key, Value::Present(Bytes::from_static(b"loaded")), 500, 500, Some(fence));
        if overtaken {
            let refused = self.group.stats().refused_fenced - before;
            assert_eq!(refused, 1, "a fill overtaken by an invalidation");
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Get(key) => self.check_get(key),
            Op::Insert { key, len, fresh, extra, absent } => {
                let bytes = Bytes::from(vec![key; usize::from(len)]);
                let value = if absent { Value::Absent } else { Value::Present(bytes) };
                self.insert(key, value, fresh, extra, None);
            }
            Op::BeginLoad(key) => self.loads.push((key, self.group.begin_load(), false)),
            Op::EndLoad => self.end_load(),
            Op::Invalidate(key) => {
                let held = self.group.peek(&[key], self.now).is_some();
                assert!(self.group.invalidate(&[key]) || !held);
                self.may_hold.remove(&key);
                self.overtake(|load| load == key);
            }
            Op::Clear => {
                self.group.clear();
                self.may_hold.clear();
                self.overtake(|_| true);
                assert!(self.group.is_empty());
            }
            Op::Pass(ms) => self.now = self.now.after_millis(u64::from(ms)),
            Op::Sweep(budget) => {
                self.cache.sweep(self.now, usize::from(budget));
            }
            Op::Capacity(bytes) => {
                self.cache.set_capacity(u64::from(bytes));
                while self.cache.sweep(self.now, 1_000).more {}
            }
            Op::Policy(index) => {
                let before = self.group.len();
                let policy = PolicyKind::ALL[usize::from(index) % PolicyKind::ALL.len()];
                self.group.update(GroupOptions { policy, ..self.group.options() });
                assert_eq!(self.group.len(), before, "a change of policy loses nothing");
                // What the new policy needs for itself is made room for afterwards.
                while self.cache.sweep(self.now, 1_000).more {}
            }
        }
    }

    fn overtake(&mut self, hit: impl Fn(u8) -> bool) {
        self.loads.iter_mut().for_each(|(key, _, overtaken)| *overtaken |= hit(*key));
    }

    fn check_accounts(&self) {
        self.group.validate();
        let stats = self.group.stats();
        let gone = stats.replaced + stats.evicted + stats.evicted_absent + stats.expired;
        let gone = gone + stats.invalidated + stats.cleared;
        // A replacement by something too large removes without storing.
        assert!(stats.entries + gone >= stats.insertions);
        assert!(stats.entries + gone <= stats.insertions + stats.refused_too_large);
        // Without entries a policy's own memory may exceed a tiny capacity.
        let fits = stats.bytes <= self.cache.capacity_bytes() || stats.entries == 0;
        assert!(fits, "{stats:?}");
        assert_eq!(self.group.bytes(), stats.bytes);
    }
}

fn run(policy: PolicyKind, shards: usize, ops: Vec<Op>) {
    let mut model = Model::new(policy, shards);
    for op in ops {
        model.apply(op);
        model.check_accounts();
    }
    for key in 0..=255 {
        model.check_get(key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_policy_answers_like_the_model(
        ops in prop::collection::vec(any_op(), 1..200),
        shards in 1..5usize,
    ) {
        for &policy in PolicyKind::ALL {
            run(policy, shards, ops.clone());
        }
    }
}

#[test]
fn a_weight_is_what_the_sum_is_made_of() {
    let mut model = Model::new(PolicyKind::Lru, 1);
    for key in 0..9 {
        model.insert(key, Value::Present(Bytes::from(vec![0; 100])), 100, 100, None);
    }
    assert_eq!(model.group.bytes(), 9 * weight(1, 100));
}
