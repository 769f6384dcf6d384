//! Owns how the cache's capacity is divided among its groups: each has its minimum, nobody exceeds
//! its maximum, idle room is lent, and a group that needs its own part back gets it. Pure.
//!
//! A group that *presses* (evicted for room since the last look) wants all it may have; another
//! wants what it holds and some head room. Room is poured at one common level over the minima
//! (max-min fairness by water-filling), so a scanning group that takes all it can get ends at the
//! same level as its neighbours and not above what they leave (C15).

/// What one group brings to the division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) min_bytes: u64,
    pub(crate) max_bytes: u64,
    /// Bytes held now.
    pub(crate) bytes: u64,
    /// True if it evicted for room since the last division.
    pub(crate) pressing: bool,
}

/// One group held to what it is due: its limit was lowered to that, but not yet raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// What it is due.
    pub(crate) target_bytes: u64,
    /// What it may hold; at most `target_bytes`.
    pub(crate) limit_bytes: u64,
    /// The most that it holds until its limit is raised: of each shard, what it holds or may
    /// hold, whichever is more. Only falls, whatever other threads do.
    pub(crate) most_bytes: u64,
}

/// What each group is due of `capacity_bytes`.
///
/// # Guarantees
/// They sum to at most the capacity.
pub(crate) fn targets(capacity_bytes: u64, demands: &[Demand]) -> Vec<u64> {
    let wants: Vec<(u64, u64)> = demands.iter().map(|d| (d.min_bytes, want(d))).collect();
    let mut targets = pour(capacity_bytes, &wants);
    let spare = capacity_bytes - targets.iter().sum::<u64>();
    // Room that nobody asked for is lent beforehand, so that growth does not wait for a division.
    let room = demands.iter().zip(&targets).map(|(d, &t)| (0, d.max_bytes.saturating_sub(t)));
    let lent = pour(spare, &room.collect::<Vec<_>>());
    targets.iter_mut().zip(lent).for_each(|(target, lent)| *target += lent);
    targets
}

/// The limits raised towards the targets by the room that nobody holds and nobody may grow into:
/// growing groups wait for what shrinking ones still hold.
///
/// # Guarantees
/// A limit rises, to its target at most. If all that is held and may be held fits the capacity, it
/// still does afterwards.
pub(crate) fn raised(capacity_bytes: u64, groups: &[Held]) -> Vec<u64> {
    let most: u64 = groups.iter().map(|group| group.most_bytes).sum();
    let wanted = |group: &Held| group.target_bytes.saturating_sub(group.limit_bytes);
    let growth: u64 = groups.iter().map(wanted).sum();
    let granted = growth.min(capacity_bytes.saturating_sub(most));
    let raised = |group| part_of(granted, wanted(group), growth) + group.limit_bytes;
    groups.iter().map(raised).collect()
}

/// `total * part / whole` without overflow; 0 of nothing.
fn part_of(total: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(total) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn want(demand: &Demand) -> u64 {
    let grown = demand.bytes + demand.bytes / 8 + (64 << 10);
    let want = if demand.pressing { demand.max_bytes } else { grown.min(demand.max_bytes) };
    want.max(demand.min_bytes)
}

/// Gives each `(floor, ceiling)` its floor, then raises all to one level until the capacity is
/// used or every ceiling reached. Floors that do not fit together are cut in proportion.
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
        Demand { min_bytes: min * MIB, max_bytes: max * MIB, bytes: bytes * MIB, pressing }
    }

    fn targets(capacity: u64, demands: &[Demand]) -> Vec<u64> {
        super::targets(capacity * MIB, demands).iter().map(|target| target / MIB).collect()
    }

    #[test]
    fn a_lone_group_may_hold_everything() {
        assert_eq!(targets(100, &[demand(0, 100, 0, false)]), [100]);
    }

    #[test]
    fn two_pressing_groups_share_evenly() {
        let both = [demand(0, 100, 90, true), demand(0, 100, 10, true)];
        assert_eq!(targets(100, &both), [50, 50]);
    }

    #[test]
    fn idle_room_is_lent_to_the_group_that_presses() {
        let groups = [demand(0, 100, 10, false), demand(0, 100, 50, true)];
        assert_eq!(targets(100, &groups), [11, 88]);
    }

    #[test]
    fn a_minimum_is_never_lent_and_a_maximum_never_exceeded() {
        let groups = [demand(40, 100, 1, false), demand(0, 30, 50, true)];
        assert_eq!(targets(100, &groups), [70, 30]);
        let groups = [demand(70, 100, 1, false), demand(0, 100, 50, true)];
        assert_eq!(targets(100, &groups), [70, 30]);
    }

    #[test]
    fn a_growing_group_waits_for_the_borrower_to_shrink() {
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
        fn raised_limits_fit_beside_what_is_held(
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
