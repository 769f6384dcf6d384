//! Pure: in which order the members of a round are asked.

/// Indices of all members: the owner first, then the others in turn starting at `rotation`;
/// those that were not reached lately come last, the owner among them.
pub(crate) fn order(down: &[bool], owner: Option<usize>, rotation: usize) -> Vec<usize> {
    let count = down.len();
    let turn = (0..count).map(|i| (i + rotation % count.max(1)) % count);
    let mut order: Vec<usize> = owner.into_iter().filter(|o| *o < count).collect();
    order.extend(turn.filter(|i| Some(*i) != owner));
    order.sort_by_key(|i| down[*i]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_first_and_everyone_is_asked_once() {
        for rotation in 0..7 {
            let order = order(&[false; 4], Some(2), rotation);
            assert_eq!(order[0], 2);
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn silent_members_come_last_even_the_owner() {
        assert_eq!(order(&[false, true, false], Some(1), 0), [0, 2, 1]);
    }

    #[test]
    fn without_an_owner_members_take_turns() {
        let first: Vec<usize> =
            (0..4).map(|rotation| order(&[false; 3], None, rotation)[0]).collect();
        assert_eq!(first, [0, 1, 2, 0]);
        assert_eq!(order(&[], None, 5), Vec::<usize>::new());
    }
}
