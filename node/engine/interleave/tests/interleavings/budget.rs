//! Groups that borrow capacity from each other never exceed it together.

use larder_engine::Group;

use super::*;

const CAPACITY: u64 = 512 << 10;

fn fill(group: &Group, keys: std::ops::Range<u8>, len: usize) {
    for key in keys {
        group.insert(&[key], &sized(len), None, NOW).ok();
    }
}

/// A borrower uses the whole capacity when its neighbours start to grow. All of them insert
/// concurrently with housekeeping. Nothing is evicted afterwards, so an excess at the end existed
/// during the race.
fn borrowed(shards: usize, lens: [usize; 2]) {
    let cache = cache(CAPACITY, shards);
    let borrower = cache.add_group("borrower", under(PolicyKind::Lru)).expect("the first");
    let options = GroupOptions { max_bytes: Some(CAPACITY / 4), ..under(PolicyKind::Lru) };
    let bounded = cache.add_group("bounded", options).expect("the second");
    let owner = cache.add_group("owner", under(PolicyKind::S3Fifo)).expect("the third");
    fill(&borrower, 0..40, lens[0]);
    assert!(cache.bytes() <= CAPACITY, "{} before the race", cache.bytes());
    let filling = |group: &Group, len| {
        let group = group.clone();
        Box::new(move || fill(&group, 100..130, len))
    };
    let keeper = cache.clone();
    let housekeeping = move || {
        for _ in 0..4 {
            keeper.sweep(NOW, 3);
        }
    };
    together(vec![
        filling(&owner, lens[1]),
        filling(&borrower, lens[0]),
        filling(&bounded, lens[1]),
        Box::new(housekeeping),
    ]);
    assert!(cache.bytes() <= CAPACITY, "{} of {CAPACITY}", cache.bytes());
    assert!(bounded.bytes() <= CAPACITY / 4, "{} exceeds the group's maximum", bounded.bytes());
    for group in cache.groups() {
        group.validate();
        assert_eq!(group.bytes(), group.stats().bytes);
    }
}

#[test]
fn borrowing_never_exceeds_the_capacity() {
    under_many_schedules(150, || borrowed(1, [16 << 10, 16 << 10]));
}

#[test]
fn borrowing_never_exceeds_the_capacity_when_shards_fill_unevenly() {
    under_many_schedules(150, || borrowed(4, [30 << 10, 5 << 10]));
}

#[test]
fn capacity_is_not_lent_while_its_owner_grows_into_it() {
    under_many_schedules(1_000, || {
        let cache = cache(CAPACITY, 1);
        let owner = cache.add_group("owner", under(PolicyKind::Lru)).expect("the first");
        let borrower = cache.add_group("borrower", under(PolicyKind::Lru)).expect("the second");
        fill(&borrower, 0..15, 16 << 10);
        let (owning, borrowing) = (owner.clone(), borrower.clone());
        together(vec![
            Box::new(move || fill(&owning, 0..12, 16 << 10)),
            Box::new(move || fill(&borrowing, 15..35, 16 << 10)),
        ]);
        assert!(cache.bytes() <= CAPACITY, "{} of {CAPACITY}", cache.bytes());
    });
}
