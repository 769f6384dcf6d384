//! The result of a load that started before an invalidation is never stored after it. The writer
//! changes the origin and then invalidates; from then on, no read returns the origin's old value.

use larder_engine::{Cache, Cause, Group, Tags, Value};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::*;

const OLD: u64 = 1;
const NEW: u64 = 2;

/// A miss of one reader: takes a fence, reads the origin and inserts.
fn load(group: &Group, origin: &AtomicU64) {
    let fence = group.begin_load();
    let version = origin.load(Ordering::SeqCst);
    let filled = entry(version).tagged(Tags::from_iter(["t"]));
    let _stored_or_refused = group.insert(b"k", &filled, Some(fence), NOW);
}

fn assert_not_outdated(group: &Group) {
    if let Some(hit) = group.peek(b"k", NOW) {
        assert_eq!(hit.version, NEW, "a load from before the invalidation was stored after it");
    }
}

/// Two readers load while a writer changes the origin and invalidates and a fourth thread runs
/// `fourth`.
fn race(
    policy: PolicyKind,
    invalidate: fn(&Group),
    fourth: impl FnOnce(Cache, Group) + Send + 'static,
) {
    let cache = cache(1 << 20, 2);
    let group = cache.add_group("g", under(policy)).expect("the first group");
    group
        .insert(b"k", &entry(OLD).tagged(Tags::from_iter(["t"])), None, NOW)
        .expect("a small entry");
    let origin = Arc::new(AtomicU64::new(OLD));
    let reader = || {
        let (group, origin) = (group.clone(), Arc::clone(&origin));
        Box::new(move || load(&group, &origin))
    };
    let writer = {
        let (group, origin) = (group.clone(), Arc::clone(&origin));
        move || {
            origin.store(NEW, Ordering::SeqCst);
            invalidate(&group);
            assert_not_outdated(&group);
        }
    };
    let fourth = {
        let (cache, group) = (cache.clone(), group.clone());
        move || fourth(cache, group)
    };
    together(vec![reader(), Box::new(writer), reader(), Box::new(fourth)]);
    assert_not_outdated(&group);
    group.validate();
}

fn sweeping(cache: Cache, _: Group) {
    cache.sweep(NOW, 100);
}

#[test]
fn a_load_is_never_stored_after_an_invalidation_of_its_key() {
    under_many_schedules(3_000, || {
        race(
            PolicyKind::Lru,
            |group| {
                group.invalidate(b"k");
            },
            sweeping,
        );
    });
}

#[test]
fn a_load_is_never_stored_after_an_invalidation_of_its_tag() {
    under_many_schedules(1_000, || {
        race(PolicyKind::TinyLfu, |group| group.invalidate_tag(b"t"), sweeping);
    });
}

#[test]
fn a_load_is_never_stored_after_its_group_was_cleared() {
    under_many_schedules(3_000, || race(PolicyKind::S3Fifo, Group::clear, sweeping));
}

#[test]
fn a_change_of_policy_during_an_invalidation_does_not_bypass_the_fence() {
    under_many_schedules(2_000, || {
        race(
            PolicyKind::Lru,
            |group| {
                group.invalidate(b"k");
            },
            |_, group| group.update(under(PolicyKind::Arc)),
        );
    });
}

#[test]
fn an_insert_during_the_removal_of_its_group_stores_nothing() {
    under_many_schedules(2_000, || {
        let cache = cache(1 << 20, 2);
        let group = cache.add_group("g", under(PolicyKind::Lru)).expect("the first group");
        let (remover, loader) = (cache.clone(), group.clone());
        let remove = move || assert!(remover.remove_group("g"));
        let fill = move || {
            let fence = loader.begin_load();
            let _stored_or_refused = loader.insert(b"k", &entry(OLD), Some(fence), NOW);
        };
        together(vec![Box::new(remove), Box::new(fill)]);
        assert!(group.is_empty() && group.get(b"k", NOW).is_none());
    });
}

#[test]
fn a_value_stored_after_an_invalidation_is_not_replaced_by_an_older_load() {
    under_many_schedules(3_000, || {
        let group = cache(1 << 20, 1).add_group("g", under(PolicyKind::Lru)).expect("the first");
        let origin = Arc::new(AtomicU64::new(OLD));
        let (reader, readers_origin) = (group.clone(), Arc::clone(&origin));
        let writer = group.clone();
        let write = move || {
            origin.store(NEW, Ordering::SeqCst);
            writer.invalidate(b"k");
            writer.insert(b"k", &entry(NEW), None, NOW).expect("a small entry");
        };
        together(vec![Box::new(move || load(&reader, &readers_origin)), Box::new(write)]);
        let hit = group.get(b"k", NOW).expect("nothing is evicted");
        assert_eq!((hit.version, hit.value().len()), (NEW, 8));
    });
}

#[test]
fn concurrent_invalidations_report_an_entry_once() {
    under_many_schedules(2_000, || {
        let group = cache(1 << 20, 1).add_group("g", under(PolicyKind::Lru)).expect("the first");
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        group.set_listener(Arc::new(move |_: &[u8], _: &Value, cause: Cause| {
            assert_eq!(cause, Cause::Invalidated);
            count.fetch_add(1, Ordering::SeqCst);
        }));
        group.insert(b"k", &entry(OLD), None, NOW).expect("a small entry");
        let (one, two) = (group.clone(), group.clone());
        let first = move || {
            one.invalidate(b"k");
        };
        together(vec![
            Box::new(first),
            Box::new(move || {
                two.invalidate(b"k");
            }),
        ]);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}
