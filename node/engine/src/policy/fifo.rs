//! First in, first out: reads change nothing, and the oldest entry is evicted first. The policy
//! with the cheapest hit and the baseline for all others.

use crate::policy::line::Line;

/// See the module.
pub(crate) type Fifo = Line<false>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::slab::tests::put;
    use crate::slab::{Slab, Slot};

    #[test]
    fn a_hit_does_not_change_the_order() {
        let mut slab = Slab::default();
        let mut fifo = Fifo::default();
        let slots: Vec<Slot> = (0..3).map(|id| put(&mut slab, id)).collect();
        slots.iter().for_each(|&slot| fifo.insert(&mut slab, slot));
        fifo.hit(&mut slab, slots[0]);
        assert_eq!(fifo.evict(&mut slab), Some(slots[0]));
    }
}
