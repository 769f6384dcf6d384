//! Even shares, respected weights and minimal movement, for StatefulSet pod names and for random
//! names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use larder_ring::{HashKind, Member, Placement, Ring, diff};
use proptest::prelude::*;

const RENDEZVOUS: Placement = Placement::Rendezvous { slots: larder_ring::DEFAULT_SLOTS };
const XXH3: Placement = Placement::Ring { virtual_nodes: 2_000, hash: HashKind::Xxh3 };
const CRC32: Placement = Placement::Ring { virtual_nodes: 50, hash: HashKind::Crc32 };

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|n| Member::new(format!("shop-{n}"))).collect()
}

fn counts(ring: &Ring, keys: u32) -> Vec<u32> {
    let mut counts = vec![0; ring.members().len()];
    for key in 0..keys {
        counts[ring.owner_index("students", format!("key-{key}").as_bytes()).unwrap()] += 1;
    }
    counts
}

#[test]
fn no_member_owns_more_than_110_percent_of_the_mean_of_a_million_keys() {
    for count in [3, 4, 5, 8, 13, 21, 34, 50] {
        let ring = Ring::new(&RENDEZVOUS, members(count));
        let max = counts(&ring, 1_000_000).into_iter().max().unwrap();
        let ratio = f64::from(max) * count as f64 / 1e6;
        assert!(ratio <= 1.10, "{count} members: max / mean {ratio:.3}");
    }
}

#[test]
fn rings_of_three_to_fifty_members_are_even_and_a_join_moves_only_the_new_share() {
    for placement in [RENDEZVOUS, XXH3] {
        let mut next = Ring::new(&placement, members(3));
        for count in 3..=50 {
            let ring = next;
            let max = ring.shares().iter().map(|(_, share)| *share).fold(0.0, f64::max);
            let ratio = max * count as f64;
            assert!(ratio <= 1.10, "{placement:?}, {count} members: max / mean {ratio:.3}");
            next = Ring::new(&placement, members(count + 1));
            let moved = diff(&ring, &next);
            let joined = format!("shop-{count}");
            assert!(moved.moves.iter().all(|part| part.to.as_deref() == Some(&joined)));
            if placement == RENDEZVOUS {
                let bar = 1.05 / (count as f64 + 1.0);
                assert!(moved.share <= bar, "{count} members: {:.5} > {bar:.5}", moved.share);
            }
        }
    }
}

#[test]
fn shares_follow_weights_within_5_percent() {
    let weights = [50, 100, 100, 200, 400, 37];
    let weighted = weights.iter().enumerate();
    let set = weighted.map(|(n, &weight)| Member { weight, ..Member::new(format!("shop-{n}")) });
    for placement in [RENDEZVOUS, XXH3] {
        let ring = Ring::new(&placement, set.clone());
        let total: u32 = weights.iter().sum();
        for (member, share) in ring.shares() {
            let due = f64::from(member.weight) / f64::from(total);
            assert!((share / due - 1.0).abs() <= 0.05, "{placement:?} {member:?}: {share:.4}");
        }
    }
}

#[test]
fn reported_shares_match_the_measured_shares() {
    for placement in [RENDEZVOUS, XXH3, CRC32] {
        let ring = Ring::new(&placement, members(5));
        for ((_, share), count) in ring.shares().iter().zip(counts(&ring, 200_000)) {
            assert!((share - f64::from(count) / 2e5).abs() < 0.01, "{placement:?}");
        }
    }
}

#[test]
fn reported_movement_matches_the_measured_movement() {
    for placement in [RENDEZVOUS, XXH3, CRC32] {
        let (three, four) = (Ring::new(&placement, members(3)), Ring::new(&placement, members(4)));
        let keys = (0..100_000u32).map(|key| format!("key-{key}"));
        let changed = keys.filter(|key| {
            let owner = |ring: &Ring| ring.owner("g", key.as_bytes()).unwrap().name.clone();
            owner(&three) != owner(&four)
        });
        let (stated, measured) = (diff(&three, &four).share, changed.count() as f64 / 1e5);
        assert!((stated - measured).abs() < 0.01, "{placement:?}: {stated} {measured}");
    }
}

#[test]
fn a_change_of_algorithm_is_estimated_by_sampling() {
    let (old, new) = (Ring::new(&CRC32, members(4)), Ring::new(&RENDEZVOUS, members(4)));
    let share = diff(&old, &new).share;
    assert!((0.65..0.85).contains(&share), "three quarters of the keys: {share}");
}

#[test]
fn a_member_without_weight_owns_nothing_and_a_ring_without_weights_has_no_owners() {
    let mut set = members(3);
    set[1].weight = 0;
    for placement in [RENDEZVOUS, XXH3] {
        let ring = Ring::new(&placement, set.clone());
        assert_eq!(counts(&ring, 1_000)[1], 0);
        let empty = Ring::new(&placement, [Member { weight: 0, ..Member::new("a") }]);
        assert!(empty.is_empty() && empty.owner("g", b"k").is_none());
        assert!(empty.owners("g", b"k", 3).is_empty());
        assert!((diff(&empty, &ring).share - 1.0).abs() < 1e-9);
    }
}

#[test]
fn replicas_of_a_key_are_in_different_zones() {
    let zoned = |n: usize| Member { zone: Some(format!("z{}", n % 3)), ..members(9)[n].clone() };
    for placement in [RENDEZVOUS, XXH3] {
        let ring = Ring::new(&placement, (0..9).map(zoned));
        for key in 0..200u32 {
            let chosen = ring.owners("g", &key.to_be_bytes(), 3);
            assert_eq!(chosen[0], ring.owner("g", &key.to_be_bytes()).unwrap());
            let zones: HashSet<_> = chosen.iter().map(|member| &member.zone).collect();
            assert_eq!(zones.len(), 3);
        }
    }
}

fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let names = prop::collection::hash_set("[a-z]{1,8}-[0-9]{1,2}", 2..9);
    (names, prop::collection::vec(1..500u32, 9)).prop_map(|(names, weights)| {
        let pairs = names.into_iter().zip(weights);
        pairs.map(|(name, weight)| Member { weight, ..Member::new(name) }).collect()
    })
}

fn any_placement() -> impl Strategy<Value = Placement> {
    let hash = prop_oneof![Just(HashKind::Crc32), Just(HashKind::Xxh3)];
    prop_oneof![
        (1..5_000u32).prop_map(|slots| Placement::Rendezvous { slots }),
        (1..200u32, hash).prop_map(|(virtual_nodes, hash)| Placement::Ring { virtual_nodes, hash }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_members_does_not_matter(set in any_members(), placement in any_placement()) {
        let forward = Ring::new(&placement, set.clone());
        let backward = Ring::new(&placement, set.into_iter().rev());
        prop_assert_eq!(&forward, &backward);
        prop_assert_eq!(diff(&forward, &backward).share, 0.0);
    }

    #[test]
    fn a_leaving_member_moves_only_its_own_keys(
        set in any_members(),
        placement in any_placement(),
        keys in prop::collection::vec(any::<Vec<u8>>(), 50),
    ) {
        let before = Ring::new(&placement, set.clone());
        let leaving = set[0].name.clone();
        let after = Ring::new(&placement, set.into_iter().skip(1));
        for key in &keys {
            let (old, new) = (before.owner("g", key).unwrap(), after.owner("g", key).unwrap());
            prop_assert!(old.name == new.name || old.name == leaving);
            if old.name == leaving {
                // The new owner was already second in the old order.
                prop_assert_eq!(&before.owners("g", key, 2)[1].name, &new.name);
            }
        }
        let moves = diff(&before, &after).moves;
        prop_assert!(moves.iter().all(|part| part.from.as_ref() == Some(&leaving)));
    }

    #[test]
    fn shares_sum_to_one_and_every_member_is_listed_once(
        set in any_members(),
        placement in any_placement(),
    ) {
        let ring = Ring::new(&placement, set);
        let sum: f64 = ring.shares().iter().map(|(_, share)| share).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{}", sum);
        let names: HashMap<_, _> = ring.members().iter().map(|m| (&m.name, m.weight)).collect();
        prop_assert_eq!(names.len(), ring.members().len());
    }
}
