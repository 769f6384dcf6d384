//! Pure: in which order the members of a round are asked.

use crate::member::Standing;

/// Indices of all members: the owner first, then the others in turn starting at `rotation`; but
/// none that would make the call wait before one that would not, the owner among them.
pub(crate) fn order(standings: &[Standing], owner: Option<usize>, rotation: usize) -> Vec<usize> {
    let count = standings.len();
    let turn = (0..count).map(|i| (i + rotation % count.max(1)) % count);
    let mut order: Vec<usize> = owner.into_iter().filter(|o| *o < count).collect();
    order.extend(turn.filter(|i| Some(*i) != owner));
    order.sort_by_key(|i| standings[*i]);
    order
}

#[cfg(test)]
mod tests {
    use Standing::{Down, Open, Unconnected};

    use super::*;

    #[test]
    fn the_owner_is_first_and_everyone_is_asked_once() {
        for rotation in 0..7 {
            let order = order(&[Open; 4], Some(2), rotation);
            assert_eq!(order[0], 2);
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn members_that_would_make_a_call_wait_come_later_even_the_owner() {
        assert_eq!(order(&[Open, Down, Open], Some(1), 0), [0, 2, 1]);
        assert_eq!(order(&[Down, Unconnected, Open], Some(1), 0), [2, 1, 0]);
        assert_eq!(order(&[Unconnected; 3], Some(1), 0), [1, 0, 2], "nobody is better");
    }

    #[test]
    fn without_an_owner_members_take_turns() {
        let first: Vec<usize> =
            (0..4).map(|rotation| order(&[Open; 3], None, rotation)[0]).collect();
        assert_eq!(first, [0, 1, 2, 0]);
        assert_eq!(order(&[], None, 5), Vec::<usize>::new());
    }
}
