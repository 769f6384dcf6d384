//! Pure: which member takes a call that any member may take.

use crate::member::Availability;

/// How calls that any member may take are distributed: all calls while the ring is unknown or not
/// followed, reads of hot keys, and invalidations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Balance {
    /// Members in turn.
    #[default]
    RoundRobin,
    /// The one of two members drawn at random that has fewer calls of this client in flight. Better
    /// where members or calls differ in speed.
    LeastLoaded,
}

/// Those of the candidates that are the most available.
pub(crate) fn most_available(
    candidates: impl Iterator<Item = usize>,
    availability: &[Availability],
) -> Vec<usize> {
    let mut candidates: Vec<usize> = candidates.collect();
    let best = candidates.iter().map(|at| availability[*at]).min();
    candidates.retain(|at| Some(availability[*at]) == best);
    candidates
}

impl Balance {
    /// One of the candidates; `None` without any. `turn` is the number of the call, and `random`
    /// has two random numbers.
    pub(crate) fn choose(
        self,
        candidates: &[usize],
        turn: usize,
        in_flight: impl Fn(usize) -> usize,
        random: [u32; 2],
    ) -> Option<usize> {
        let count = candidates.len();
        if count < 2 || self == Self::RoundRobin {
            return candidates.get(turn % count.max(1)).copied();
        }
        // "The power of two choices" (Mitzenmacher, 2001): two different ones.
        let first = random[0] as usize % count;
        let second = (first + 1 + random[1] as usize % (count - 1)) % count;
        [candidates[first], candidates[second]].into_iter().min_by_key(|at| in_flight(*at))
    }
}

#[cfg(test)]
mod tests {
    use Availability::{Connected, Down, Unconnected};

    use super::*;

    #[test]
    fn the_member_with_fewer_calls_in_flight_is_taken() {
        let candidates = [0, 1, 3];
        let draw =
            |random| Balance::LeastLoaded.choose(&candidates, 0, |at| [7, 3, 0, 5][at], random);
        assert_eq!(draw([0, 0]), Some(1), "of 0 and 1");
        assert_eq!(draw([0, 1]), Some(3), "of 0 and 3");
        assert_eq!(draw([2, 0]), Some(3), "of 3 and 0");
        for random in 0..36 {
            let drawn = draw([random, random / 6]);
            assert!(drawn == Some(1) || drawn == Some(3), "never the most loaded: {drawn:?}");
        }
    }

    #[test]
    fn members_take_turns() {
        let turns = |turn| Balance::RoundRobin.choose(&[1, 4], turn, |_| 0, [0, 0]);
        assert_eq!([0, 1, 2].map(turns), [Some(1), Some(4), Some(1)]);
    }

    #[test]
    fn one_member_or_none_needs_no_choice() {
        for balance in [Balance::RoundRobin, Balance::LeastLoaded] {
            assert_eq!(balance.choose(&[7], 5, |_| 9, [5, 5]), Some(7));
            assert_eq!(balance.choose(&[], 5, |_| 9, [5, 5]), None);
        }
    }

    #[test]
    fn only_the_most_available_members_are_candidates() {
        let availability = [Down, Connected, Unconnected, Connected];
        assert_eq!(most_available(0..4, &availability), [1, 3]);
        assert_eq!(most_available([0, 2].into_iter(), &availability), [2]);
        assert_eq!(most_available(0..0, &[]), [0; 0]);
    }
}
