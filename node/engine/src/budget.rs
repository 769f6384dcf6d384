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

/// What one group gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// What it is due.
    pub(crate) target_bytes: u64,
    /// What it may hold until others have shrunk to their own targets; at most `target_bytes`.
    pub(crate) limit_bytes: u64,
}

/// Divides `capacity_bytes`.
///
/// # Guarantees
/// Targets sum to at most the capacity. So does, over all groups, the greater of the bytes held
/// and the limit, if the bytes held do.
pub(crate) fn divide(capacity_bytes: u64, demands: &[Demand]) -> Vec<Share> {
    let wants: Vec<(u64, u64)> = demands.iter().map(|d| (d.min_bytes, want(d))).collect();
    let mut targets = pour(capacity_bytes, &wants);
    let spare = capacity_bytes - targets.iter().sum::<u64>();
    // Room that nobody asked for is lent beforehand, so that growth does not wait for a division.
    let room = demands.iter().zip(&targets).map(|(d, &t)| (0, d.max_bytes.saturating_sub(t)));
    let lent = pour(spare, &room.collect::<Vec<_>>());
    targets.iter_mut().zip(lent).for_each(|(target, lent)| *target += lent);
    limits(demands, &targets)
}

/// Growing groups wait for what shrinking ones still hold.
fn limits(demands: &[Demand], targets: &[u64]) -> Vec<Share> {
    let pairs = || demands.iter().zip(targets);
    let over: u64 = pairs().map(|(d, &target)| d.bytes.saturating_sub(target)).sum();
    let growth: u64 = pairs().map(|(d, &target)| target.saturating_sub(d.bytes)).sum();
    let granted = growth.saturating_sub(over);
    let share = |(demand, &target): (&Demand, &u64)| {
        let wanted = target.saturating_sub(demand.bytes);
        let part = part_of(granted, wanted, growth);
        Share { target_bytes: target, limit_bytes: target.min(demand.bytes + part) }
    };
    pairs().map(share).collect()
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
        divide(capacity * MIB, demands).iter().map(|s| s.target_bytes / MIB).collect()
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
        let full = [demand(0, 100, 100, true), demand(0, 100, 0, true)];
        let shares = divide(100 * MIB, &full);
        assert_eq!((shares[1].target_bytes, shares[1].limit_bytes), (50 * MIB, 0));
        let shrunk = [demand(0, 100, 60, true), demand(0, 100, 0, true)];
        assert_eq!(divide(100 * MIB, &shrunk)[1].limit_bytes, 40 * MIB);
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
            let shares = divide(capacity * MIB, &demands);
            let due: u64 = shares.iter().map(|s| s.target_bytes).sum();
            prop_assert!(due <= capacity * MIB);
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(share.limit_bytes <= share.target_bytes);
                prop_assert!(share.target_bytes <= demand.max_bytes.max(demand.min_bytes));
            }
            let held: u64 = demands.iter().map(|d| d.bytes).sum();
            if held <= capacity * MIB {
                let worst = shares.iter().zip(&demands).map(|(s, d)| s.limit_bytes.max(d.bytes));
                prop_assert!(worst.sum::<u64>() <= capacity * MIB);
            }
        }
    }
}
