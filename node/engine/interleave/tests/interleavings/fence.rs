//! A load begun before an invalidation never lands after it: whoever invalidates, has changed the
//! origin before, and from then on nobody reads what the origin held earlier.

use larder_engine::{Cache, Cause, Group, Value};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::*;

const OLD: u64 = 1;
const NEW: u64 = 2;

/// One reader's miss: fence, origin, fill.
fn load(group: &Group, origin: &AtomicU64) {
    let fence = group.begin_load();
    let version = origin.load(Ordering::SeqCst);
    let filled = entry(version).tagged(["t"]);
    let _stored_or_refused = group.insert(b"k", &filled, Some(fence), NOW);
}

fn assert_not_outdated(group: &Group) {
    if let Some(hit) = group.peek(b"k", NOW) {
        assert_eq!(hit.version, NEW, "a load begun before the invalidation landed after it");
    }
}

/// Two readers load while a writer changes the origin and invalidates, beside a fourth thread.
fn race(
    policy: PolicyKind,
    invalidate: fn(&Group),
    beside: impl FnOnce(Cache, Group) + Send + 'static,
) {
    let cache = cache(1 << 20, 2);
    let group = cache.add_group("g", under(policy)).expect("the first group");
    group.insert(b"k", &entry(OLD).tagged(["t"]), None, NOW).expect("a small entry");
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
        move || beside(cache, group)
    };
    together(vec![reader(), Box::new(writer), reader(), Box::new(fourth)]);
    assert_not_outdated(&group);
    group.validate();
}

fn sweeping(cache: Cache, _: Group) {
    cache.sweep(NOW, 100);
}

#[test]
fn a_load_begun_before_its_key_is_invalidated_never_lands_after_it() {
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
fn a_load_begun_before_its_tag_is_invalidated_never_lands_after_it() {
    under_many_schedules(1_000, || {
        race(PolicyKind::TinyLfu, |group| group.invalidate_tag(b"t"), sweeping);
    });
}

#[test]
fn a_load_begun_before_its_group_is_cleared_never_lands_after_it() {
    under_many_schedules(3_000, || race(PolicyKind::S3Fifo, Group::clear, sweeping));
}

#[test]
fn a_change_of_policy_during_an_invalidation_opens_no_way_around_the_fence() {
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
fn a_load_that_lands_while_its_group_is_removed_does_not_revive_it() {
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
fn what_a_writer_stored_after_its_invalidation_is_not_lost_to_an_older_load() {
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
        let hit = group.get(b"k", NOW).expect("the room is large");
        assert_eq!((hit.version, hit.value().len()), (NEW, 8));
    });
}

/// Beside C4: of what was stored and left again, each is told once, whoever raced.
#[test]
fn racing_invalidations_tell_of_an_entry_once() {
    under_many_schedules(2_000, || {
        let group = cache(1 << 20, 1).add_group("g", under(PolicyKind::Lru)).expect("the first");
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
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
        assert_eq!(told.load(Ordering::SeqCst), 1);
    });
}
