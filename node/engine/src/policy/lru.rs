//! Least recently used: one list. A hit moves its slot to the front, and the back is evicted first.

use crate::policy::line::Line;

/// See the module.
pub(crate) type Lru = Line<true>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::slab::tests::put;
    use crate::slab::{Slab, Slot};

    #[test]
    fn evicts_the_least_recently_used_slot_first() {
        let mut slab = Slab::default();
        let mut lru = Lru::default();
        let slots: Vec<Slot> = (0..3).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| lru.insert(&mut slab, slot));
        lru.hit(&mut slab, slots[0]);
        let order: Vec<Slot> = std::iter::from_fn(|| lru.evict(&mut slab)).collect();
        assert_eq!(order, [slots[1], slots[2], slots[0]]);
    }
}
