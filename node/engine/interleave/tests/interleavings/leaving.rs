//! All operations run concurrently: counters stay consistent, each removal is reported once, and
//! listeners are called without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use larder_engine::{Cause, Group, Tags, Value};
use parking_lot::Mutex;

use super::*;

/// Number of inserts and of reported removals, by version. Each version is inserted once.
#[derive(Default)]
struct Ledger(Mutex<HashMap<u64, (u32, u32)>>);

impl Ledger {
    fn stored(&self, version: u64) {
        self.0.lock().entry(version).or_default().0 += 1;
    }

    fn removed(&self, value: &Value) {
        let bytes = value.present().expect("only values are stored");
        let version = bytes[..8].try_into().map(u64::from_be_bytes).expect("eight bytes");
        self.0.lock().entry(version).or_default().1 += 1;
    }
}

fn write(group: &Group, ledger: &Ledger, from: u64) {
    for version in from..from + 8 {
        let life = NOW.after_millis(version % 3 * 300);
        let bytes = [&version.to_be_bytes()[..], &[0; 200]].concat();
        let new = NewEntry::new(Value::Present(bytes.into()), life, life, version)
            .tagged(Tags::from_iter(["t"]));
        let key = [u8::try_from(version % 5).expect("below 5")];
        if group.insert(&key, &new, None, NOW).is_ok() {
            ledger.stored(version);
        }
        let _hit_or_miss = group.get(&key, NOW);
    }
}

#[test]
fn concurrent_operations_keep_counters_consistent_and_report_each_removal_once() {
    under_many_schedules(300, || {
        let cache = cache(2_000, 2);
        let group = cache.add_group("g", under(PolicyKind::TinyLfu)).expect("the first group");
        let ledger = Arc::new(Ledger::default());
        let log = Arc::clone(&ledger);
        group.set_listener(Arc::new(move |_: &[u8], value: &Value, _: Cause| log.removed(value)));
        let writer = |from| {
            let (group, ledger) = (group.clone(), Arc::clone(&ledger));
            Box::new(move || write(&group, &ledger, from))
        };
        let (keeper, kept) = (cache.clone(), group.clone());
        let housekeeping = move || {
            keeper.sweep(NOW.after_millis(700), 3);
            keeper.set_capacity(1_200);
            kept.invalidate(&[1]);
            kept.validate();
            keeper.sweep(NOW.after_millis(1_400), 5);
        };
        let changed = group.clone();
        let changing = move || {
            changed.update(under(PolicyKind::Arc));
            changed.invalidate_tag(b"t");
            changed.clear();
            changed.update(under(PolicyKind::S3Fifo));
            changed.validate();
        };
        together(vec![writer(0), Box::new(housekeeping), Box::new(changing), writer(100)]);
        group.validate();
        assert_eq!(group.bytes(), group.stats().bytes);
        group.clear();
        while cache.sweep(NOW, 100).more {}
        for (version, (stored, removed)) in ledger.0.lock().iter() {
            assert_eq!((*stored, *removed), (1, 1), "version {version}");
        }
    });
}

#[test]
fn a_listener_may_call_any_method_of_its_cache() {
    under_many_schedules(200, || {
        let cache = cache(256 << 10, 1);
        let group = cache.add_group("g", under(PolicyKind::Lru)).expect("the first group");
        let neighbour = cache.add_group("n", under(PolicyKind::Lru)).expect("another");
        let (asked, probe) = (cache.clone(), group.clone());
        let depth = Mutex::new(());
        group.set_listener(Arc::new(move |key: &[u8], _: &Value, _: Cause| {
            // The calls below remove entries too, so do not recurse.
            let Some(_once) = depth.try_lock() else { return };
            let _any = probe.get(key, NOW);
            let _any = probe.insert(key, &sized(10), None, NOW);
            probe.invalidate(key);
            probe.update(probe.options());
            asked.set_capacity(asked.capacity_bytes());
            asked.sweep(NOW, 10);
            if asked.add_group("new", GroupOptions::default()).is_ok() {
                assert!(asked.remove_group("new"));
            }
        }));
        let filler = |group: &Group| {
            let group = group.clone();
            Box::new(move || {
                for key in 0..20u8 {
                    group.insert(&[key], &sized(16 << 10), None, NOW).ok();
                }
            })
        };
        together(vec![filler(&group), filler(&neighbour)]);
        group.clear();
        while cache.sweep(NOW, 100).more {}
        group.validate();
    });
}
