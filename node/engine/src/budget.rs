//! Divides the cache's capacity among its groups. Each group gets its minimum and never exceeds its
//! maximum. Idle capacity is lent, and a group that needs its share back gets it. Pure.
//!
//! A group under pressure (one that evicted for room since the last division) demands its maximum;
//! any other demands what it holds plus some headroom, or, if its share refused a large entry
//! lately, at least a share in which each shard has room for one. The capacity above the minima is
//! divided by water-filling (max-min fairness). A scanning group therefore ends at the same level
//! as its neighbours and cannot push them below it.

/// The demand of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) min_bytes: u64,
    pub(crate) max_bytes: u64,
    /// Bytes held now.
    pub(crate) bytes: u64,
    /// Bytes with which every shard has room for one of the group's largest entries. A group that
    /// demanded less would neither store such an entry nor ever evict for it.
    pub(crate) entry_room_bytes: u64,
    /// True if the group evicted for room since the last division.
    pub(crate) pressing: bool,
}

/// A group whose limit was lowered to its target but not raised yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The group's share of the capacity.
    pub(crate) target_bytes: u64,
    /// Current limit; at most `target_bytes`.
    pub(crate) limit_bytes: u64,
    /// Upper bound of what the group holds until its limit is raised: the sum over its shards of
    /// bytes held or shard limit, whichever is larger. Other threads can only decrease it.
    pub(crate) most_bytes: u64,
}

/// The share of each group of `capacity_bytes`.
///
/// # Guarantees
/// The shares sum to at most the capacity.
pub(crate) fn targets(capacity_bytes: u64, demands: &[Demand]) -> Vec<u64> {
    let wants: Vec<(u64, u64)> = demands.iter().map(|d| (d.min_bytes, want(d))).collect();
    let mut targets = pour(capacity_bytes, &wants);
    let spare = capacity_bytes - targets.iter().sum::<u64>();
    // Lend the capacity without demand in advance, so that growth need not wait for a division.
    let room = demands.iter().zip(&targets).map(|(d, &t)| (0, d.max_bytes.saturating_sub(t)));
    let lent = pour(spare, &room.collect::<Vec<_>>());
    targets.iter_mut().zip(lent).for_each(|(target, lent)| *target += lent);
    targets
}

/// Raises the limits towards the targets by the capacity that no group holds and no limit covers.
/// Growing groups wait until shrinking groups have released their bytes.
///
/// # Guarantees
/// No limit falls or exceeds its target. If the sum of `most_bytes` fits the capacity before, it
/// still fits afterwards.
pub(crate) fn raised(capacity_bytes: u64, groups: &[Held]) -> Vec<u64> {
    let most: u64 = groups.iter().map(|group| group.most_bytes).sum();
    let wanted = |group: &Held| group.target_bytes.saturating_sub(group.limit_bytes);
    let growth: u64 = groups.iter().map(wanted).sum();
    let granted = growth.min(capacity_bytes.saturating_sub(most));
    let raised = |group| part_of(granted, wanted(group), growth) + group.limit_bytes;
    groups.iter().map(raised).collect()
}

/// `total * part / whole` without overflow; 0 if `whole` is 0.
fn part_of(total: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(total) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn want(demand: &Demand) -> u64 {
    let grown = demand.bytes + demand.bytes / 8 + (64 << 10);
    let wanted = grown.max(demand.entry_room_bytes);
    let want = if demand.pressing { demand.max_bytes } else { wanted.min(demand.max_bytes) };
    want.max(demand.min_bytes)
}

/// Water-filling: gives each `(floor, ceiling)` its floor, then raises all to one common level
/// until the capacity is used or every ceiling is reached. Floors that exceed the capacity together
/// are scaled down in proportion.
fn pour(capacity: u64, bounds: &[(u64, u64)]) -> Vec<u64> {
    let floors: u64 = bounds.iter().map(|&(floor, _)| floor).sum();
    if floors > capacity {
        return bounds.iter().map(|&(floor, _)| part_of(capacity, floor, floors)).collect();
    }
    let at =
        |level: u64| bounds.iter().map(move |&(floor, top)| level.clamp(floor, top.max(floor)));
    let (mut low, mut high) = (0, capacity);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if at(middle).sum::<u64>() <= capacity {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    at(low).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn demand(min: u64, max: u64, bytes: u64, pressing: bool) -> Demand {
        Demand {
            min_bytes: min * MIB,
            max_bytes: max * MIB,
            bytes: bytes * MIB,
            entry_room_bytes: 0,
            pressing,
        }
    }

    fn targets(capacity: u64, demands: &[Demand]) -> Vec<u64> {
        super::targets(capacity * MIB, demands).iter().map(|target| target / MIB).collect()
    }

    #[test]
    fn a_single_group_gets_the_whole_capacity() {
        assert_eq!(targets(100, &[demand(0, 100, 0, false)]), [100]);
    }

    #[test]
    fn two_groups_under_pressure_share_evenly() {
        let both = [demand(0, 100, 90, true), demand(0, 100, 10, true)];
        assert_eq!(targets(100, &both), [50, 50]);
    }

    #[test]
    fn idle_capacity_is_lent_to_the_group_under_pressure() {
        let groups = [demand(0, 100, 10, false), demand(0, 100, 50, true)];
        assert_eq!(targets(100, &groups), [11, 88]);
    }

    #[test]
    fn a_group_with_large_entries_demands_room_for_them_but_no_more_than_its_level() {
        let large = |room| Demand { entry_room_bytes: room * MIB, ..demand(0, 100, 0, false) };
        let holder = demand(0, 100, 100, true);
        assert_eq!(targets(100, &[large(20), holder]), [20, 80]);
        assert_eq!(targets(100, &[large(90), holder]), [50, 50]);
    }

    #[test]
    fn a_minimum_is_never_lent_and_a_maximum_never_exceeded() {
        let groups = [demand(40, 100, 1, false), demand(0, 30, 50, true)];
        assert_eq!(targets(100, &groups), [70, 30]);
        let groups = [demand(70, 100, 1, false), demand(0, 100, 50, true)];
        assert_eq!(targets(100, &groups), [70, 30]);
    }

    #[test]
    fn a_growing_group_waits_until_the_borrower_has_shrunk() {
        let held = |target_bytes, limit_bytes, most_bytes| Held {
            target_bytes: target_bytes * MIB,
            limit_bytes: limit_bytes * MIB,
            most_bytes: most_bytes * MIB,
        };
        assert_eq!(raised(100 * MIB, &[held(50, 50, 100), held(50, 0, 0)]), [50 * MIB, 0]);
        assert_eq!(raised(100 * MIB, &[held(50, 50, 60), held(50, 0, 0)]), [50 * MIB, 40 * MIB]);
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        (0..1_000u64, 0..1_000u64, 0..300u64, any::<bool>())
            .prop_map(|(min, more, bytes, pressing)| demand(min, min + more, bytes, pressing))
    }

    proptest! {
        #[test]
        fn shares_fit_the_capacity(
            capacity in 0..3_000u64,
            demands in proptest::collection::vec(any_demand(), 0..8),
        ) {
            let targets = super::targets(capacity * MIB, &demands);
            prop_assert!(targets.iter().sum::<u64>() <= capacity * MIB);
            for (&target, demand) in targets.iter().zip(&demands) {
                prop_assert!(target <= demand.max_bytes.max(demand.min_bytes));
            }
        }

        #[test]
        fn raised_limits_and_held_bytes_fit_the_capacity(
            capacity in 0..3_000u64,
            groups in proptest::collection::vec((0..1_000u64, 0..1_000u64, 0..1_000u64), 0..8),
        ) {
            let groups: Vec<Held> = groups
                .into_iter()
                .map(|(target_bytes, limit, over)| {
                    let limit_bytes = limit.min(target_bytes);
                    Held { target_bytes, limit_bytes, most_bytes: limit_bytes.max(over) }
                })
                .collect();
            let limits = raised(capacity, &groups);
            for (&limit, group) in limits.iter().zip(&groups) {
                prop_assert!((group.limit_bytes..=group.target_bytes).contains(&limit));
            }
            let before: u64 = groups.iter().map(|group| group.most_bytes).sum();
            let rise = |(&limit, group): (&u64, &Held)| limit - group.limit_bytes;
            let after = before + limits.iter().zip(&groups).map(rise).sum::<u64>();
            prop_assert!(after <= capacity.max(before));
        }
    }
}
