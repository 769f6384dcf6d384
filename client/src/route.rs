//! Pure: the order in which one round tries the members.

use crate::member::Availability;

/// Indices of all members: the more available first, among equals the owner, then the others in
/// turn from `rotation` on. A member for which the call would have to wait, even the owner, comes
/// after those that take it now.
pub(crate) fn order(
    availability: &[Availability],
    owner: Option<usize>,
    rotation: usize,
) -> Vec<usize> {
    let count = availability.len();
    let turn = (0..count).map(|i| (i + rotation % count.max(1)) % count);
    let mut order: Vec<usize> = owner.into_iter().filter(|o| *o < count).collect();
    order.extend(turn.filter(|i| Some(*i) != owner));
    order.sort_by_key(|i| availability[*i]);
    order
}

#[cfg(test)]
mod tests {
    use Availability::{Connected, Down, Unconnected};

    use super::*;

    #[test]
    fn the_owner_is_first_and_every_member_occurs_once() {
        for rotation in 0..7 {
            let order = order(&[Connected; 4], Some(2), rotation);
            assert_eq!(order[0], 2);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn members_that_delay_a_call_come_later_even_the_owner() {
        assert_eq!(order(&[Connected, Down, Connected], Some(1), 0), [0, 2, 1]);
        assert_eq!(order(&[Down, Unconnected, Connected], Some(1), 0), [2, 1, 0]);
        assert_eq!(order(&[Unconnected; 3], Some(1), 0), [1, 0, 2], "none is better");
    }

    #[test]
    fn without_an_owner_members_take_turns() {
        let first: Vec<usize> =
            (0..4).map(|rotation| order(&[Connected; 3], None, rotation)[0]).collect();
        assert_eq!(first, [0, 1, 2, 0]);
        assert_eq!(order(&[], None, 5), Vec::<usize>::new());
    }
}
